"""Stress: mutated inputs, kills, crowds, full disks, folders that go, hostile names.

Not part of the tests, since it takes half an hour: ``make stress``, or one part of it with
``python -m tests.stress --minutes 3 --seed 1 --only kills``.
"""
