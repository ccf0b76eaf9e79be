"""New music: a model continues a prime frame by frame."""

from musicgen.generation.generate import GenerationConfig as GenerationConfig
from musicgen.generation.generate import continue_rolls as continue_rolls
from musicgen.generation.generate import generate as generate
from musicgen.generation.generate import generate_several as generate_several
from musicgen.generation.generate import without_prime as without_prime
from musicgen.generation.infilling import fill_between as fill_between
