"""What others would serve the same model with: each a server as the library's own guide writes it.

The model directory is named by the variable `MODEL`, the port of this machine by `PORT`.
"""
