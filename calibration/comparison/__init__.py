"""Scorers and backbones side by side on the same parts: `inspectd compare`.

`halves` splits labelled pictures; `contest` calibrates the `contenders` on one half and judges them
on the other; `paired` says what may be chance; `record` holds the outcome, and `report` (with
`plots`) writes its page.
"""
