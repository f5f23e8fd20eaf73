-- Deletes the log and begins a new epoch at offset 1. What producers sent before stays known: a batch of theirs that is
-- on its way again belonged to the history that has just been deleted. Gives the new epoch.

local run = open_log().run
drop_log()
save({epoch = NEW_EPOCH, run = run, last = 0, survived = '', bytes = 0, mark = 0, fresh = true, changed = true})
return NEW_EPOCH
