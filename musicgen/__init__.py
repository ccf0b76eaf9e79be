"""Learn to write piano music with an attention LSTM.

The parts of the poster are packages, read in this order:

    piano_roll     the note x time matrix, with pedal and beats
    beats          beats: checks, features of a frame, a metronome
    midi           the mido sampler
        events         bytes of a MIDI file -> messages, tolerant of faults
        tempo_map      ticks <-> seconds <-> frames, bars
        performance    messages -> notes and pedal -> PianoRoll
        writing        PianoRoll -> MIDI file
    dataset        pieces -> cached rolls -> batches of training windows
    model          the attention LSTM
        attention_lstm the settings, one layer, the whole network
        attention      the poster's attention cell, and copy attention
        sequences      cached past frames, moving averages
        features       what each pitch and the pedal did recently
        heads          output heads, and the likelihood of a frame
    training       the training loop
        trainer        the settings, the loop, stopping
        loss           the loss of the next frame
        optim          optimisers, schedules, averages of weights, precision
        checkpoint     a trained model as one safe file
        resume         continuing a run
    generation     new music
        generate       the settings, and continuing a prime frame by frame
        sampling       pure functions from logits to notes
        repetition     the repetition penalty

Around them: ``corpora`` (where pieces come from), ``evaluation`` (likelihood and musical measures), ``lab`` (everything
shown in JupyterLab: figures, player, panels, course), ``scaling`` (several processes) and ``utils`` (helpers that know
nothing about music). No part imports one that comes later. ``python -m musicgen --help`` lists the commands.
"""
