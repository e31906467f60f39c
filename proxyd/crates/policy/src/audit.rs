//! Audit policies: who can open the trails of a session.

/// People who can open a trail only together: every member of the group is needed.
///
/// Members are age recipients in text form ("age1…").
pub type RecipientGroup = Vec<String>;

/// How the trails of a connection policy are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditPolicy {
    /// The policy's name.
    pub name: String,
    /// Any one of these groups opens a trail; never empty.
    pub recipients: Vec<RecipientGroup>,
    /// Any one of these groups opens what the client typed; empty means `recipients`.
    pub upstream_recipients: Vec<RecipientGroup>,
}
