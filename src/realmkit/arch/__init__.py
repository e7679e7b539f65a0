"""Architecture facts shared by both sides of every interface: encodings, layouts, identifiers.

Nothing here holds state and nothing here imports another realmkit package.
"""
