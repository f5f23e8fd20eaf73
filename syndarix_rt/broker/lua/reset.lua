-- Deletes the log and begins a new epoch at offset 1. What producers sent before stays known: a batch of theirs that is
-- on its way again belonged to the history that has just been deleted. Gives the new epoch.

open_log() -- refuses keys that are not ours
drop_log()
save({
  epoch = NEW_EPOCH, run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)'), last = 0, survived = '',
  bytes = 0, mark = 0, fresh = true, changed = true,
})
return NEW_EPOCH
