"""The profile of the opening, embedded for the output head."""

from torch import Tensor, nn

from musicgen.home import KNOWN, N_HOME_FEATURES

HOME_SIZE = 64  # units of the hidden layers


class Home(nn.Module):
    """Embeds the profile of the opening with one small network, shared by all pitches.

    Parameters
    ----------
    pitch_size : int
        Size of the embedding of a pitch.
    """

    def __init__(self, pitch_size: int):
        super().__init__()
        last = nn.Linear(HOME_SIZE, pitch_size)
        nn.init.zeros_(last.weight)  # initially the opening has no effect
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(
            nn.Linear(N_HOME_FEATURES, HOME_SIZE), nn.ReLU(), nn.Linear(HOME_SIZE, HOME_SIZE), nn.ReLU(), last
        )

    def forward(self, features: Tensor) -> Tensor:
        """Embed profiles (..., n_pitches, N_HOME_FEATURES): (..., n_pitches, pitch_size); 0 for an unknown opening."""
        return self.network(features) * features[..., KNOWN:]
