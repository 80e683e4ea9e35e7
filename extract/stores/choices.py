"""The age at which `store gc` removes an unused store. Imports no library, so that help shows at once."""

HOURS_IN_USE = 24.0  # a store with a younger file may be one that is being filled
