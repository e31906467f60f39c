//! Counters: one name per early exit of the program, and the counts kept per policy.

/// Why a packet left the program where it did; the index of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// Passed: neither IPv4 nor IPv6.
    NotIp = 0,
    /// Passed: IP, but not TCP.
    NotTcp,
    /// Passed: a header is cut off or says an impossible length.
    Malformed,
    /// Passed: a fragment without ports that cannot change a TCP header.
    LaterFragment,
    /// Passed: might hide the start of a connection, but no rule has its addresses.
    UnsurePassed,
    /// Passed: a segment that belongs to no socket of ours and opens no connection.
    NotOurs,
    /// Passed: a SYN that no rule matched.
    NoRule,
    /// Passed: a SYN that a forwarding rule matched.
    Forwarded,
    /// To the proxy: a segment of a connection the proxy holds.
    Established,
    /// To the proxy: a SYN, assigned to the listener.
    Redirected,
    /// To the proxy: the last step of a handshake the kernel keeps in a SYN cookie.
    CookieAck,
    /// Dropped: a SYN that a dropping rule matched.
    Dropped,
    /// Dropped: a first fragment without the whole TCP header (RFC 1858), addresses of a rule.
    TinyFragment,
    /// Dropped: a fragment at offset 8 bytes (RFC 3128), addresses of a rule.
    OverlappingFragment,
    /// Dropped: a SYN in a fragmented packet, addresses of a rule.
    FragmentedSyn,
    /// Dropped: more extension headers than are walked, addresses of a rule.
    HeaderChain,
    /// Dropped: a fragmented segment of a connection the proxy holds.
    FragmentOfOurs,
    /// Passed: a matched SYN while no proxy listens, as its rule says.
    DownForwarded,
    /// Dropped: a matched SYN while no proxy listens, as its rule says.
    DownDropped,
    /// Answered with a reset: a matched SYN while no proxy listens, as its rule says.
    DownReset,
    /// Dropped: the kernel refused to assign the listener.
    AssignFailed,
    /// Dropped: a reset could not be written into the packet.
    ResetFailed,
    /// Passed: the program's settings cannot be read; never seen when the daemon loaded it.
    NotConfigured,
    /// To the proxy's host: a SYN that meets a connection, or what remains of one, which has to be
    /// cleared away before the SYN is sent again.
    Reopened,
    /// Dropped: such a SYN could not be changed as that needs.
    ReopenFailed,
    /// Dropped: the bridge port it arrived at is not known; never seen when the daemon attached it.
    PortUnknown,
    /// Dropped: the frame could not be addressed to its bridge port.
    PortFailed,
    /// To the proxy's host: word of a router that segments of a connection the proxy holds are too
    /// big for the path.
    TooBig,
    /// Dropped: a SYN that is to be routed by its sender's list of addresses (RFC 791 section 3.1,
    /// RFC 8200 section 4.4), one of which is a rule's.
    SourceRouted,
    /// Dropped: TCP behind an LLC and SNAP header (RFC 1042), which this host does not take but
    /// others do, addresses of a rule.
    Snap,
    /// Passed: router mode, and the frame is addressed to another device of the link.
    OtherHost,
    /// Passed by the fast path; counted beside the reason why the packet passed.
    FastPath,
    /// Dropped: the fast path could not change a packet as a router has to.
    FastPathFailed,
    /// A verdict that was to be traced found the ring full; counted beside the reason.
    TraceLost,
    /// Dropped: a matched SYN above what its policy takes per second.
    Paced,
}

impl Reason {
    /// Every reason, in the order of its counter.
    pub const ALL: [Self; REASONS as usize] = [
        Self::NotIp,
        Self::NotTcp,
        Self::Malformed,
        Self::LaterFragment,
        Self::UnsurePassed,
        Self::NotOurs,
        Self::NoRule,
        Self::Forwarded,
        Self::Established,
        Self::Redirected,
        Self::CookieAck,
        Self::Dropped,
        Self::TinyFragment,
        Self::OverlappingFragment,
        Self::FragmentedSyn,
        Self::HeaderChain,
        Self::FragmentOfOurs,
        Self::DownForwarded,
        Self::DownDropped,
        Self::DownReset,
        Self::AssignFailed,
        Self::ResetFailed,
        Self::NotConfigured,
        Self::Reopened,
        Self::ReopenFailed,
        Self::PortUnknown,
        Self::PortFailed,
        Self::TooBig,
        Self::SourceRouted,
        Self::Snap,
        Self::OtherHost,
        Self::FastPath,
        Self::FastPathFailed,
        Self::TraceLost,
        Self::Paced,
    ];

    /// Whether a packet with this reason might hide the start of a connection, so that it is
    /// dropped when its addresses match a rule.
    #[inline(always)]
    #[must_use]
    pub const fn is_unsure(self) -> bool {
        matches!(
            self,
            Self::TinyFragment
                | Self::OverlappingFragment
                | Self::FragmentedSyn
                | Self::HeaderChain
                | Self::SourceRouted
                | Self::Snap
        )
    }

    /// The name in metrics and in `proxyd steering status`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotIp => "not_ip",
            Self::NotTcp => "not_tcp",
            Self::Malformed => "malformed",
            Self::LaterFragment => "later_fragment",
            Self::UnsurePassed => "unsure_passed",
            Self::NotOurs => "not_ours",
            Self::NoRule => "no_rule",
            Self::Forwarded => "forwarded",
            Self::Established => "established",
            Self::Redirected => "redirected",
            Self::CookieAck => "cookie_ack",
            Self::Dropped => "dropped",
            Self::TinyFragment => "tiny_fragment",
            Self::OverlappingFragment => "overlapping_fragment",
            Self::FragmentedSyn => "fragmented_syn",
            Self::HeaderChain => "header_chain",
            Self::FragmentOfOurs => "fragment_of_ours",
            Self::DownForwarded => "down_forwarded",
            Self::DownDropped => "down_dropped",
            Self::DownReset => "down_reset",
            Self::AssignFailed => "assign_failed",
            Self::ResetFailed => "reset_failed",
            Self::NotConfigured => "not_configured",
            Self::Reopened => "reopened",
            Self::ReopenFailed => "reopen_failed",
            Self::PortUnknown => "port_unknown",
            Self::PortFailed => "port_failed",
            Self::TooBig => "too_big",
            Self::SourceRouted => "source_routed",
            Self::Snap => "snap",
            Self::OtherHost => "other_host",
            Self::FastPath => "fast_path",
            Self::FastPathFailed => "fast_path_failed",
            Self::TraceLost => "trace_lost",
            Self::Paced => "paced",
        }
    }
}

/// How many reasons there are.
pub const REASONS: u32 = Reason::Paced as u32 + 1;

/// What one CPU counted for one policy: SYNs, by what became of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct PolicyCounts {
    /// SYNs that a forwarding rule let pass.
    pub forwarded: u64,
    /// SYNs given to the proxy.
    pub redirected: u64,
    /// SYNs that a dropping rule discarded.
    pub dropped: u64,
    /// SYNs met by `on_down` because no proxy listened.
    pub down: u64,
    /// SYNs discarded because the policy takes no more per second.
    pub paced: u64,
}

const _: () = assert!(size_of::<PolicyCounts>() == 40);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "marker for types that may be copied into maps byte by byte")]
// SAFETY: `repr(C)`, only integers, no padding: asserted above.
unsafe impl aya::Pod for PolicyCounts {}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn reasons_stand_at_their_own_index() {
        for (index, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index, "{}", reason.name());
        }
    }
}
