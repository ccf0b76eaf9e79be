"""Learn to write piano music with an attention LSTM.

The core is a pipeline of nine modules, read in this order:

    piano_roll   the note x time matrix, with pedal and beats
    midi         the mido sampler: MIDI file -> piano roll, and back
    dataset      pieces -> cached rolls -> batches of training windows
    attention    the poster's attention cell, and copy attention
    model        the attention LSTM
    outputs      output heads, and the likelihood of a frame
    training     the training loop
    checkpoint   a trained model as one safe file
    generation   continue a prime frame by frame

The subpackages use the core, which never imports them: ``corpora`` (where pieces come from), ``evaluation``
(likelihoods, statistics, likeness to real music, novelty), ``lab`` (everything shown in JupyterLab) and ``scaling``
(several processes). ``support`` holds helpers: files, settings, signals, tensors, and the details of MIDI events, tempo
and beats. ``python -m musicgen --help`` lists the commands.
"""
