//! What the protocol counts. Each counter is said once, here; the owner lists them by name.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Totals since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Every counter with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

counters! {
    /// Changes of own flows that the kernel told.
    local_changes,
    /// Changes of flows that peers told.
    remote_changes,
    /// Of those, how many were older than what was known, or claimed a flow that another carries.
    remote_changes_stale,
    /// Of those, how many changed nothing that the kernel would have to know.
    remote_changes_known,
    /// Changes that the kernel took.
    applied_changes,
    /// Changes that the kernel refused; they are tried again when the flow changes, is told anew, or by the next audit.
    refused_changes,
    /// Of those, how many because another flow has the flow's original or reply tuple.
    conflicts,
    /// Of those, how many because the kernel's table is full; they are tried again, ever more rarely, from a second to a minute.
    kernel_full,
    /// Changes that the kernel was not asked for, as their flows are from or to an address of this machine.
    kept_out,
    /// Flows that the kernel took without their helper, as it has none of that name.
    helpers_missing,
    /// Flows that moved from another gateway to this one.
    takeovers,
    /// Flows that moved from this gateway to another.
    handovers,
    /// Copies that ended in our kernel while their carrier had not ended them.
    copies_expired,
    /// Times that a copy was written its timeout anew, as its carrier lives.
    copies_refreshed,
    /// Of the expired, how many were put back, as their carrier had still not ended them.
    copies_put_back,
    /// Entries that were not over when this kernel dropped them, and were put back.
    cut_put_back,
    /// Packets that were held until the peers had their flow.
    held,
    /// Of those, how many went on because every peer waited for had it in its kernel.
    held_acked,
    /// How many waited for as long as a packet may.
    held_deadline,
    /// How many did not wait, as too many did already or the table is full.
    held_limit,
    /// How many did not wait, or no longer, as no live peer was there to wait for.
    held_no_peer,
    /// How many were of a flow that is not known, or ended meanwhile.
    held_unknown,
    /// How many waited when the daemon ended.
    held_shutdown,
    /// Flows of held packets that were withdrawn, as the packet came to nothing.
    held_withdrawn,
    /// Flows not taken because the table is full.
    table_full,
    /// Kernel updates of flows not known, left to the next pass.
    updates_of_unknown,
    /// Flows that a pass over the kernel table brought, changed or ended.
    reconciled,
    /// Copies removed because their carrier did not name them in a bulk update.
    swept,
    /// Datagrams from an incarnation that has not proven itself, or whose packet number was seen or is too old.
    datagrams_replayed_or_unproven,
    /// Datagrams that came over one network after they had come over another, as they were sent over several.
    datagrams_duplicate,
    /// Times that another network took over for one to a peer.
    network_switches,
    /// Attributes, of hellos and of records, that were skipped: they are of another version.
    unknown_attributes,
    /// Records that were.
    unknown_records,
    /// Deltas received before.
    deltas_duplicate,
    /// Deltas before the bulk update we follow, or too far past a gap.
    deltas_out_of_window,
    /// Acknowledgements sent.
    acks_sent,
    /// Of those, how many named missing deltas.
    acks_sent_with_gaps,
    /// Acknowledgements received.
    acks_received,
    /// Of those, how many named missing deltas.
    acks_received_with_gaps,
    /// Times that a peer was asked for a bulk update, as too much was missed.
    bulk_updates_asked,
    /// Times that a peer asked for that.
    bulk_updates_asked_by_peers,
    /// Deltas sent, resends included.
    deltas_sent,
    /// Deltas sent again because a peer missed them.
    deltas_resent,
    /// Flow records sent for the first time.
    records_sent,
    /// Deltas received and acted on.
    deltas_received,
    /// Bulk updates that peers were given: one was new, or had missed more than the log holds.
    bulk_updates_sent,
    /// Times that this member became something else in the cluster.
    state_changes,
    /// Times that it got the active role, or gave it up.
    failovers,
    /// Probes of interfaces that were sent.
    probes_sent,
    /// Probes of peers that came over the interface that they name.
    probes_received,
    /// Probes that did not: they came over another interface, or were seen before.
    probes_refused,
    /// Snapshots that peers asked us for and were given.
    snapshots_served,
    /// Flows in them.
    snapshot_rows_sent,
    /// Snapshots that we asked peers for.
    snapshots_fetched,
    /// Of those, how many ended half-way: what was missing came from another peer, or by datagrams.
    snapshots_broken,
    /// Flows in them.
    snapshot_rows_received,
    /// Of those, how many were not taken: of a member that we do not hear, or of an earlier run of it.
    snapshot_rows_skipped,
}
