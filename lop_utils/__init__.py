"""The code behind the LoP Book: mechanisms, measurements and evidence for loss of plasticity.

The package is built in floors; a floor imports only from floors below it:

    kit > figures > experiments > evidence > training > streams > optim > manifolds > metrics > models > theory
"""

__version__ = "0.1.0"
