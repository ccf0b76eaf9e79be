"""The player: a roll as sound, with a moving line over its picture, and the piano keyboard."""

from musicgen.lab.player.web_player import Player as Player
from musicgen.lab.player.web_player import player as player
