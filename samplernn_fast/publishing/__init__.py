"""Models for others: a folder that says of itself what it is, and the Hugging Face Hub.

Read `facts` (what is known of a model), `card` (the text that is made of it), then `repository`. What talks to the Hub
is `samplernn_fast.hub`, because every room that reads a model may be given one from there.
"""
