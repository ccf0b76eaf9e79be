"""Learn to write piano music with an attention LSTM.

The modules are the stages of one pipeline and are read in this order:

    corpus      which pieces there are, and their train / validation / test split
    midi        a MIDI file -> a piano roll sampled at 20 Hz, and back
    piano_roll  the note x time matrix itself
    dataset     many rolls -> one cache -> windows and padded batches
    model       the attention LSTM
    training    the loop, stopping and resuming
    checkpoint  a trained model as one file
    generation  continue a prime, frame by frame
    metrics     likelihoods, baselines, musical statistics
    plots       every figure
    audio       a roll -> sound

Import the module you need, for example ``from musicgen.midi import read_midi``.
"""
