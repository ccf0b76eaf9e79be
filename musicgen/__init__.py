"""Learn to write piano music with an attention LSTM.

The modules are the stages of one pipeline and are read in this order:

    corpus      which pieces there are, and their train / validation / test split; download fetches MAESTRO
    midi        a MIDI file -> a performance in ticks, and a piano roll -> a MIDI file
    performance notes, pedal and tempo in ticks -> a piano roll sampled at 20 Hz; primes has some openings
    piano_roll  the note x time matrix itself
    dataset     many rolls -> one cache
    windows     the cache -> batches of training excerpts
    model       the attention LSTM: its LSTM layers, the cells of attention, and the output of keys
    recipe      loss, optimiser and learning rate
    training    the loop, stopping and resuming
    checkpoint  a trained model as one file
    generation  continue a prime, frame by frame
    metrics     likelihoods and baselines; polyphonic has the data sets that papers compare on
    descriptors what a piece is like; comparison sets generated beside real pieces, novelty looks for copies
    plots       figures of rolls; charts of numbers, architecture of the model (figure 3)
    audio       a roll -> sound; player shows and plays it in a notebook

Beside them: ``shards`` and ``fingerprints`` keep the cache whole and tell whether it is still true, ``limits`` bounds
what one file may take, ``linear`` makes products faster and ``stepping`` single frames, ``distributed`` joins several
processes to one run, ``runs`` and ``takes`` are what was trained and composed. In JupyterLab one turns and clicks
``forms``, ``keyboard``, and the views and panels: ``corpus_view``, ``training_view``, ``attention_view`` and
``generation_panel``.

``files`` writes whatever is written, whole or not at all; ``settings`` are what the configs are made of; ``commands``
joins the stages for the command line. Import what you need, for example ``from musicgen.midi import read_midi``.
"""
