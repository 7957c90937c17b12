"""The engine: one circuit's rules, and what carries them out.

Read `machine` first (the rules), beside `transitions` (the state table); then `phase` (one stay in
one state), `verdicts` (asking the strategies) and `circuit` (the lock around all of it).
"""
