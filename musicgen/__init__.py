"""Learn to write piano music with an attention LSTM.

The parts, from the ground up. Each imports only parts above it and ``utils``, so it can be read in this order:

    beats          beats: checks, features of a frame, a metronome
    piano_roll     the note x time matrix, with pedal and beats
    beat_candidates  candidates for the beats of a roll, from its onsets
    home           the profile of an opening
    midi           the mido sampler
        events         bytes of a MIDI file -> messages, tolerant of faults
        pairing        messages -> notes, and moves of the pedal
        tempo_map      ticks <-> seconds <-> frames, bars
        performance    notes and pedal -> PianoRoll: read_midi
        writing        PianoRoll -> MIDI file
    dataset        pieces -> cached rolls -> batches of training windows
    model          the attention LSTM
        attention_lstm the settings, one layer, the whole network
        attention      the poster's attention cell, and copy attention
        features       what each pitch and the pedal did recently
        home           embeds the profile of an opening
        heads          output heads, and the likelihood of frames
        given_beats    the likelihood of a roll given each of several candidates for its beats
        probe          tells from the hidden states whether a pianist plays
        origin         the checkpoint that a model was read from
    evaluation     how good a model and its music are
        likelihood     nll of whole pieces, and the baselines
        markov         a piece from the Markov baseline
        statistics     measures of one piece: rhythm, pulse, pitch, velocity, repetition, memory, continuity
        likeness       means over many pieces; a classifier that tells generated from real music
        beat_tracking  the beats of a whole recording, found by a model; how well they agree with annotated ones
        novelty        the longest run of notes that a piece shares with the training pieces
    training       the training loop
        trainer        the settings, the loop, stopping
        loss           the loss of the next frame
        optim          optimizers, schedules, averages of weights, precision
        device_windows training windows that are cut on the training device
        checkpoint     a trained model as one safe file
        progress       the progress of a run, its record and its log
        resume         continuing a run: its lock, and the states of optimizer and random numbers
        run            from rolls and settings to a trainer
    generation     new music
        generate       the settings, and continuing a prime frame by frame
        continuation   pieces that grow frame by frame, and what a model remembers
        steps          the steps of a frame as modules that can be exported; guidance; they run in PyTorch
        engines        the choice of an engine, and the one that runs exported steps in ONNX Runtime
        browser_steps  what is in NumPy, as modules that can be exported for a browser
        export         graphs for ONNX Runtime, in Python or a browser
        sampling       pure functions from logits to notes
        repetition     the repetition penalty
        beat_search    the beats of a prime, found by the model
        steering       several continuations at once, of which the best go on
        infilling      an opening and an ending are given: the middle that fits best
    corpora        where pieces come from
        folder         any folder of MIDI files, with or without MAESTRO's table
        splits         training, validation and test pieces of a folder without a table
        maestro        the download of MAESTRO
        sample         the bundled sample of MAESTRO
        primes         the openings in the sample
        chorales       Bach's chorales from music21
    lab            everything shown in JupyterLab, and the site
        figures        style, fonts, html; rolls, charts, architecture; moments of a model: values and plots
        player         sound, the web player, the piano keyboard
        panels         forms; panels for training, composing and exploring moments; takes, the table of runs
        course         notebook (open a corpus, choose a piece, train), exercises, models, results, pages and slides
        site           the page that composes
    scaling        training in several processes
    commands       what each command does; ``__main__`` has their options and the entry point

``utils`` has helpers that know nothing about music: files, limits, locks, processes, signals, devices, settings,
inference, arrays, progress. `musicgen.checkpoint` is the former name of a module of `training`.
"""
