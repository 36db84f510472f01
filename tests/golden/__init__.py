"""What the original Daphne makes of programs, kept as files.

`programs/NAME.daphne` is a program, `programs/NAME.json` the document that the original
(plai-group/daphne, commit d19cff7) writes for it, if it writes one, and
`programs/index.json` says of each program what it shows and of which kind it is: `good`
(its document is right), `quirk` (its document does not mean what the program means) or
`bad` (the program means nothing).
"""
