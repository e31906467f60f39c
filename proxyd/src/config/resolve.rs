//! From the text of a file to the checked configuration, noting every problem on the way.

use std::path::Path;
use std::sync::Arc;

use proxyd_policy::PolicySet;
use proxyd_policy::audit::AuditPolicy;
use proxyd_policy::channel::ChannelPolicy;
use proxyd_policy::connection::{ConnectionPolicy, OnProxyDown};
use proxyd_policy::credential::CredentialStore;
use proxyd_policy::gateway::AuthenticationPolicy;
use proxyd_policy::limits::CONNECTION_POLICIES_MAX;
use proxyd_policy::settings::SshSettings;
use proxyd_policy::usermapping::UsermappingPolicy;
use toml::de::{DeTable, DeValue};

use super::effective::effective;
use super::entries::Entries;
use super::file::{self, File};
use super::report::Problems;
use super::value::{Node, Value as _};
use super::{Limits, Steering, Storage, convert, files, semantic};

/// Everything a file says.
#[derive(Debug)]
pub(super) struct Resolved {
    /// How connections are picked up.
    pub(super) steering: Steering,
    /// Bounds on what this gateway takes on.
    pub(super) limits: Limits,
    /// Where state and evidence go.
    pub(super) storage: Storage,
    /// The policies.
    pub(super) policy: PolicySet,
    /// The file as TOML with its defaults, without secrets.
    pub(super) effective: String,
}

/// Reads and checks `source`; relative paths start at `directory`.
///
/// Nothing is given when an error keeps some part from being built; then there is a problem.
pub(super) fn resolve(directory: &Path, source: &str) -> (Option<Resolved>, Problems) {
    let mut problems = Problems::default();
    let (document, broken) = DeTable::parse_recoverable(source);
    for error in broken {
        problems.syntax(source, error.span(), error.message());
    }
    let document = DeValue::Table(document.into_inner());
    let root = Node { value: &document, span: None, key: String::new() };
    let resolved = match File::read(&root, &mut problems) {
        // What broken syntax swallowed would only give rise to wrong complaints.
        Some(file) if !problems.is_broken() => resolve_file(directory, &file, &mut problems),
        Some(_) | None => None,
    };
    (resolved, problems)
}

/// Resolves every section before giving up on any, so that each problem is noted.
fn resolve_file(directory: &Path, file: &File, problems: &mut Problems) -> Option<Resolved> {
    let users = Entries::new(&file.user, |user| &user.name, problems, convert::user);
    let policies = Policies::new(directory, file, problems);
    let connections = policies.connections(file, problems);
    semantic::check_order(&file.connection_policy, &connections, problems);
    semantic::check_interfaces(file, problems);
    semantic::check_mark(file, problems);
    semantic::check_signing(&file.audit_policy, problems);
    let steering = file.steering.get().and_then(|section| convert::steering(directory, section));
    let limits = file.limits.get().and_then(convert::limits);
    let storage = file.storage.get();
    let storage = storage.and_then(|section| convert::storage(directory, section, problems));
    Some(Resolved {
        steering: steering?,
        limits: limits?,
        storage: storage?,
        policy: PolicySet {
            connection_policies: connections.into_iter().collect::<Option<_>>()?,
            users: users.complete()?,
        },
        effective: effective(file),
    })
}

/// The policies that connection policies refer to.
struct Policies {
    settings: Entries<SshSettings>,
    default_settings: Option<Arc<SshSettings>>,
    authentication: Entries<AuthenticationPolicy>,
    usermapping: Entries<UsermappingPolicy>,
    channels: Entries<ChannelPolicy>,
    audit: Entries<AuditPolicy>,
    stores: Entries<CredentialStore>,
}

impl Policies {
    fn new(directory: &Path, file: &File, problems: &mut Problems) -> Self {
        let times = Entries::new(&file.time_policy, |time| &time.name, problems, convert::time);
        let files = Entries::new(&file.file_policy, |files| &files.name, problems, files::policy);
        Self {
            settings: Entries::new(
                &file.settings_policy,
                |settings| &settings.name,
                problems,
                |section, problems| convert::settings(directory, section, problems),
            ),
            default_settings: convert::default_settings().map(Arc::new),
            authentication: Entries::new(
                &file.authentication_policy,
                |authentication| &authentication.name,
                problems,
                |section, problems| convert::authentication(directory, section, problems),
            ),
            usermapping: Entries::new(
                &file.usermapping_policy,
                |mapping| &mapping.name,
                problems,
                convert::usermapping,
            ),
            channels: Entries::new(
                &file.channel_policy,
                |channels| &channels.name,
                problems,
                |section, problems| convert::channels(section, &times, &files, problems),
            ),
            audit: Entries::new(
                &file.audit_policy,
                |audit| &audit.name,
                problems,
                |section, _| convert::audit(section),
            ),
            stores: Entries::new(
                &file.credential_store,
                |store| &store.name,
                problems,
                |section, problems| convert::store(directory, section, problems),
            ),
        }
    }

    /// The connection policies in order; `None` in the place of one with problems.
    fn connections(
        &self,
        file: &File,
        problems: &mut Problems,
    ) -> Vec<Option<Arc<ConnectionPolicy>>> {
        let on_proxy_down = file.steering.get().and_then(|steering| steering.on_proxy_down.get());
        let list = &file.connection_policy;
        let sections = list.get().map(Vec::as_slice).unwrap_or_default();
        if sections.len() > CONNECTION_POLICIES_MAX {
            let count = sections.len();
            let message = format!("{count} connection policies exceed {CONNECTION_POLICIES_MAX}");
            problems.error(&list.span, &list.key, message);
        }
        semantic::check_names(sections, problems);
        sections
            .iter()
            .map(|section| self.connection(section, on_proxy_down.copied(), problems).map(Arc::new))
            .collect()
    }

    fn connection(
        &self,
        section: &file::Connection,
        on_proxy_down: Option<OnProxyDown>,
        problems: &mut Problems,
    ) -> Option<ConnectionPolicy> {
        let settings = self.settings.find_optional(&section.settings, problems);
        let authentication = self.authentication.find(&section.authentication, problems);
        let usermapping = self.usermapping.find_optional(&section.usermapping, problems);
        let store = self.stores.find_optional(&section.credential_store, problems);
        let channels = self.channels.find(&section.channels, problems);
        let audit = self.audit.find_optional(&section.audit, problems);
        if let Some(authentication) = &authentication {
            semantic::check_authentication(section, authentication, problems);
        }
        if let Some(channels) = &channels {
            semantic::check_channels(section, channels, authentication.as_deref(), problems);
        }
        let protocol = *section.protocol.get()?;
        Some(ConnectionPolicy {
            name: section.name.get()?.0.clone(),
            protocol,
            from: section.from.get()?.0.clone(),
            to: section.to.get()?.0.clone(),
            ports: section.ports.get()?.0.clone(),
            target: convert::target(section.target.get()?, protocol)?,
            source: section.source.get()?.0,
            settings: settings?.or_else(|| self.default_settings.clone())?,
            authentication: authentication?,
            usermapping: usermapping?,
            credential_store: store?,
            channels: channels?,
            audit: audit?,
            on_recording_failure: *section.on_recording_failure.get()?,
            on_proxy_down: (*section.on_proxy_down.get()?).or(on_proxy_down)?,
            on_reload: *section.on_reload.get()?,
            new_connections_per_s: section.new_connections_per_s.get()?.0,
        })
    }
}
