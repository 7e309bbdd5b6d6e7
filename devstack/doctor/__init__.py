"""`hybridge doctor`: why is there no connection? One finding per check, each with a next step.

`faults` names all that it can find, `examination` has the order, `report` writes it down.
"""
