"""A virtual line with known truth and scripted faults, around the real daemon, and its account.

::

    scenario   what is to happen: parts, rate, faults, expectations (TOML)
    stage      product, pictures, and what the scorer says of them undisturbed
    broker, network, daemon, conveyor, ears    the line's pieces, each a context manager
    plant      all of them put together
    faults     what can be done to a plant
    account    what came of it: pure, events in, figures out
    plot       the same as a picture
    run        from a scenario to its account
"""
