"""The migrations of the store, one file each in `versions/`; `serve.store.migrate` runs them."""
