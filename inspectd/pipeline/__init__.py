"""From a picture to a decision: pure functions and a thin shell around them."""
