//! Who may open the trails that are written, and which key signs them.
use age::x25519;

use crate::crypt::ContentKey;
use crate::error::TrailError;
use crate::header::WrappedShare;
use crate::sign::SigningKey;

/// The most groups of one recipient list: each member costs 300 to 500 bytes in every trail.
pub const GROUPS_MAX: usize = 16;

/// The most members of one group: all have to come together to open a trail.
pub const MEMBERS_MAX: usize = 16;

/// The checked recipients and the signing key; one value serves many trails.
#[derive(Clone, Debug)]
pub struct Sealing {
    recipients: Vec<Group>,
    upstream_recipients: Vec<Group>,
    signing_key: SigningKey,
}

impl Sealing {
    /// Checks two lists of groups of age X25519 recipients (`age1…`). Any one group opens a trail;
    /// all members of that group are needed. Without `upstream_recipients` the first list serves
    /// for all streams. Fails for a list that is empty or too long, a group that is empty, too
    /// large or names a member twice, and text that is not a recipient.
    pub fn new(
        recipients: &[Vec<String>],
        upstream_recipients: &[Vec<String>],
        signing_key: SigningKey,
    ) -> Result<Self, TrailError> {
        let recipients = parse_groups("recipients", recipients)?;
        let upstream_recipients = if upstream_recipients.is_empty() {
            recipients.clone()
        } else {
            parse_groups("upstream_recipients", upstream_recipients)?
        };
        Ok(Self { recipients, upstream_recipients, signing_key })
    }

    /// The key that signs.
    #[must_use]
    pub const fn signing_key(&self) -> &SigningKey {
        &self.signing_key
    }

    /// Wraps the key of the meta and downstream chunks to its recipients.
    pub(crate) fn wrap_session_key(
        &self,
        key: &ContentKey,
    ) -> Result<Vec<Vec<WrappedShare>>, TrailError> {
        self.recipients.iter().map(|group| wrap(group, key)).collect()
    }

    /// Wraps the key of the upstream chunks to its recipients.
    pub(crate) fn wrap_upstream_key(
        &self,
        key: &ContentKey,
    ) -> Result<Vec<Vec<WrappedShare>>, TrailError> {
        self.upstream_recipients.iter().map(|group| wrap(group, key)).collect()
    }
}

/// Members that open a trail only together.
type Group = Vec<Member>;

/// One recipient, as text and as key.
#[derive(Clone, Debug)]
struct Member {
    text: String,
    key: x25519::Recipient,
}

/// Parses one recipient list.
fn parse_groups(list: &'static str, groups: &[Vec<String>]) -> Result<Vec<Group>, TrailError> {
    if groups.is_empty() {
        return Err(TrailError::NoRecipients { list });
    }
    check_count(list, "groups", groups.len(), GROUPS_MAX)?;
    groups.iter().map(|group| parse_group(list, group)).collect()
}

/// Parses one group.
fn parse_group(list: &'static str, texts: &[String]) -> Result<Group, TrailError> {
    check_count(list, "members in a group", texts.len(), MEMBERS_MAX)?;
    let mut group: Group = Vec::with_capacity(texts.len());
    for text in texts {
        if text.trim().to_ascii_lowercase().starts_with(SECRET_KEY_PREFIX) {
            return Err(TrailError::RecipientIsSecret { list });
        }
        let key = text
            .trim()
            .parse::<x25519::Recipient>()
            .map_err(|reason| TrailError::Recipient { list, text: text.clone(), reason })?;
        if group.iter().any(|member| member.key == key) {
            return Err(TrailError::RecipientTwice { list, text: text.clone() });
        }
        group.push(Member { text: key.to_string(), key });
    }
    Ok(group)
}

/// Fails for a count outside 1 to `limit`.
fn check_count(
    list: &'static str,
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), TrailError> {
    if (1..=limit).contains(&count) {
        return Ok(());
    }
    Err(TrailError::RecipientCount { list, what, count, limit })
}

/// Splits a key among the members of a group and wraps each share to its member.
fn wrap(group: &[Member], key: &ContentKey) -> Result<Vec<WrappedShare>, TrailError> {
    let shares = key.split(group.len())?;
    let mut wrapped_shares = Vec::with_capacity(group.len());
    for (member, share) in group.iter().zip(&shares) {
        let recipient = member.text.clone();
        match age::encrypt(&member.key, share.as_slice()) {
            Ok(wrapped) => wrapped_shares.push(WrappedShare { recipient, wrapped }),
            Err(source) => {
                return Err(TrailError::Wrap { recipient, source: Box::new(source) });
            }
        }
    }
    Ok(wrapped_shares)
}

/// What the text of an age identity starts with, in lower case.
const SECRET_KEY_PREFIX: &str = "age-secret-key-";
