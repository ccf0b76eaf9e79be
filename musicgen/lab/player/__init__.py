"""The player, which shows a roll and plays it as sound, and the piano keyboard, which records one."""

from musicgen.lab.player.web_player import Player as Player
from musicgen.lab.player.web_player import player as player
