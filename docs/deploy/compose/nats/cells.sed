# Makes the accounts of the profile `cells` out of accounts.conf: with the mapping of slots, and with the rights on
# BOTSTATS_EVENTS for BOTSTATS_EVENTS_2 and BOTSTATS_EVENTS_3 too.
s/^    # mappings /    mappings /
/BOTSTATS_EVENTS[".]/{
  p
  s/BOTSTATS_EVENTS/BOTSTATS_EVENTS_2/g
  p
  s/BOTSTATS_EVENTS_2/BOTSTATS_EVENTS_3/g
}
