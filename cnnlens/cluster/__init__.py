"""How a network organizes what it knows: trees of categories and of filters, embeddings."""
