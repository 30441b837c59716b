"""The place of the Kubernetes operator for models: fetch, build, accept, promote, roll back.

Not built yet. The room exists so that the rules about it hold from the start: the kubernetes
client may be imported here and nowhere else.
"""
