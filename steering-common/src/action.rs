//! Verdicts: what happens to a new connection, and to one whose proxy is down.

/// What a rule does with a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// It passes at packet level, as if no rule were there.
    Forward = 0,
    /// It goes to the proxy.
    Redirect = 1,
    /// Its packets are discarded.
    Drop = 2,
}

impl Action {
    /// The action with this number, as it stands in a table entry.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Forward),
            1 => Some(Self::Redirect),
            2 => Some(Self::Drop),
            _ => None,
        }
    }
}

/// What happens to a new connection of a redirecting rule while no proxy listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum OnDown {
    /// It passes at packet level, unseen by the proxy.
    Forward = 0,
    /// Its packets are discarded.
    Drop = 1,
    /// The client gets a TCP reset.
    Reset = 2,
}

impl OnDown {
    /// The behaviour with this number, as it stands in a table entry.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            0 => Some(Self::Forward),
            1 => Some(Self::Drop),
            2 => Some(Self::Reset),
            _ => None,
        }
    }
}

/// The outcome of a rule that matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// What to do instead of a redirect while no proxy listens.
    pub on_down: OnDown,
    /// Counter slot of the policy, below [`crate::limits::POLICIES_MAX`].
    pub policy: u16,
}

impl Verdict {
    /// A verdict, or none, as the return value of a test run: the policy above 16 bits, the
    /// behaviour above 8, and the action plus 1.
    #[inline(always)]
    #[must_use]
    pub const fn pack(verdict: Option<Self>) -> u32 {
        match verdict {
            Some(Self { action, on_down, policy }) => {
                (policy as u32) << 16 | (on_down as u32) << 8 | (action as u32 + 1)
            }
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Action, OnDown, Verdict};

    #[test]
    fn packed_verdicts_differ() {
        let verdict = |action, on_down, policy| Some(Verdict { action, on_down, policy });
        for (verdict, expected) in [
            (None, 0),
            (verdict(Action::Forward, OnDown::Forward, 0), 0x0001),
            (verdict(Action::Drop, OnDown::Reset, 0x1234), 0x1234_0203),
            (verdict(Action::Redirect, OnDown::Drop, u16::MAX), 0xffff_0102),
        ] {
            assert_eq!(Verdict::pack(verdict), expected, "{verdict:?}");
        }
    }

    #[test]
    fn numbers_round_trip() {
        for action in [Action::Forward, Action::Redirect, Action::Drop] {
            assert_eq!(Action::from_u8(action as u8), Some(action));
        }
        for on_down in [OnDown::Forward, OnDown::Drop, OnDown::Reset] {
            assert_eq!(OnDown::from_u8(on_down as u8), Some(on_down));
        }
        assert_eq!(Action::from_u8(3), None);
        assert_eq!(OnDown::from_u8(3), None);
    }
}
