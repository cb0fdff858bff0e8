"""A network's start without foreign weights (Q8).

`recipe` reads what is asked, `stream` makes the images, `masked` is the masked autoencoder,
`learn` trains, and the command writes a folder whose `model.safetensors`
`vitrail.networks.load_start` takes.
"""
