"""How good generated images are: FID, precision and recall, modes, nearest training images, checkerboards."""
