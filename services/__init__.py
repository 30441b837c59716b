"""The processes of Axial and what they share.

Services never import each other: they meet in ``proto/``, in the database (each table has one
writing room) and in the study store.
"""
