"""Runtimes measured beside each other, in turn, on one model and one machine.

::

    subject      what is measured: a model, pictures, and how far scores may differ
    contenders   who takes part: every runtime there is, and others that are handed in
    worker       the process in which one contender lives
    requests     what it can be asked
    host         starts that process, asks it, ends it
    course       rounds of turns in shuffled order: a busy spell strikes everyone
    statistics   percentiles, and when there are too few samples for one
    floor        arithmetic over the machine's rate: below this no runtime can be
    rung         how well a claim about the GPU is earned by what ran
    machine      what it ran on
    report       all of it as figures, for the table, the JSON and the plot
    plot         the distributions as a picture

Nothing here imports torch: the command line hands in what rests on it (`calibration.eager`) as the
name of a function, which only the contender's own process imports.
"""
