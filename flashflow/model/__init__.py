"""Pure types that every part shares: ids, units, errors, relays, reports, results, circuit plans.

Nothing here imports anything of FlashFlow outside this folder, nor does any I/O.
"""
