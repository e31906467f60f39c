//! From the text of a file to the checked configuration, noting every problem on the way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proxyd_policy::PolicySet;
use proxyd_policy::audit::{AuditPolicy, RecipientGroup};
use proxyd_policy::channel::{ChannelPolicy, ChannelRule};
use proxyd_policy::connection::{ConnectionPolicy, OnProxyDown, Protocol};
use proxyd_policy::credential::{CredentialEntry, CredentialStore};
use proxyd_policy::gateway::{AuthenticationPolicy, GatewayAuthentication, GatewayMethod, User};
use proxyd_policy::limits::CONNECTION_POLICIES_MAX;
use proxyd_policy::settings::{Algorithms, ClientSide, ServerSide, SshSettings};
use proxyd_policy::target::{InbandTargets, TargetPolicy};
use proxyd_policy::time::{TimePolicy, Week};
use proxyd_policy::usermapping::{UsermappingPolicy, UsermappingRule};
use toml::de::{DeTable, DeValue};

use super::choice::{Cipher, Gateway, GatewayMethodKind, Interface, Kex, Mac, Mode, Target};
use super::file::{self, File};
use super::keys::Recipient;
use super::report::Problems;
use super::section::{Field, Section};
use super::semantic;
use super::value::{FilePath, Int, Name, Node, NonEmpty, Value as _};
use super::{Limits, Steering, SteeringMode, Storage};

/// What a connection policy without settings policy uses: every default of that section.
const DEFAULT_SETTINGS: &str = "name = \"default\"\nprotocol = \"ssh\"\n";

/// Everything a file says.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) steering: Steering,
    pub(super) limits: Limits,
    pub(super) storage: Storage,
    pub(super) policy: PolicySet,
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
    let users = Entries::new(&file.user, |user| &user.name, problems, user);
    let policies = Policies::new(directory, file, problems);
    let connections = policies.connections(file, problems);
    semantic::check_order(&file.connection_policy, &connections, problems);
    let steering = file.steering.get().and_then(|section| steering(directory, section, problems));
    let limits = file.limits.get().and_then(limits);
    let storage = file.storage.get().and_then(|section| storage(directory, section));
    if let Some(steering) = &steering {
        semantic::check_interfaces(&file.steering, steering, &connections, problems);
    }
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

/// The entries of one list by name; an entry with problems of its own has a name only.
struct Entries<T> {
    /// The key of the list.
    key: String,
    by_name: BTreeMap<String, Option<Arc<T>>>,
    /// Whether the list itself could be read.
    read: bool,
}

impl<T> Entries<T> {
    /// Builds every entry of a list; notes names that occur twice.
    fn new<F>(
        list: &Field<Vec<F>>,
        name: impl Fn(&F) -> &Field<Name>,
        problems: &mut Problems,
        build: impl Fn(&F, &mut Problems) -> Option<T>,
    ) -> Self {
        let mut by_name = BTreeMap::new();
        for entry in list.get().into_iter().flatten() {
            let built = build(entry, problems).map(Arc::new);
            let field = name(entry);
            let Some(name) = field.get() else { continue };
            if by_name.insert(name.0.clone(), built).is_some() {
                let message = format!("\"{}\" is the name of an earlier entry too", name.0);
                problems.error(&field.span, &field.key, message);
            }
        }
        Self { key: list.key.clone(), by_name, read: list.get().is_some() }
    }

    /// The entry that a key names; notes a name that no entry has.
    fn find(&self, field: &Field<Name>, problems: &mut Problems) -> Option<Arc<T>> {
        self.find_name(field.get()?, field, problems)
    }

    /// As [`Entries::find`] for a key that may be left out; the inner `None` is the key left out.
    fn find_optional(
        &self,
        field: &Field<Option<Name>>,
        problems: &mut Problems,
    ) -> Option<Option<Arc<T>>> {
        match field.get()? {
            Some(name) => self.find_name(name, field, problems).map(Some),
            None => Some(None),
        }
    }

    fn find_name<N>(
        &self,
        name: &Name,
        field: &Field<N>,
        problems: &mut Problems,
    ) -> Option<Arc<T>> {
        if let Some(entry) = self.by_name.get(&name.0) {
            return entry.clone();
        }
        if self.read {
            let message = format!("there is no [[{}]] named \"{}\"", self.key, name.0);
            let names: Vec<&str> = self.by_name.keys().map(String::as_str).collect();
            problems.error_with_help(&field.span, &field.key, message, semantic::name_help(&names));
        }
        None
    }

    /// Every entry, when none has problems.
    fn complete(self) -> Option<BTreeMap<String, Arc<T>>> {
        self.by_name.into_iter().map(|(name, entry)| Some((name, entry?))).collect()
    }
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
        let times = Entries::new(&file.time_policy, |time| &time.name, problems, time);
        Self {
            settings: Entries::new(
                &file.settings_policy,
                |settings| &settings.name,
                problems,
                |section, _| settings(section),
            ),
            default_settings: default_settings().map(Arc::new),
            authentication: Entries::new(
                &file.authentication_policy,
                |authentication| &authentication.name,
                problems,
                |section, _| authentication(section),
            ),
            usermapping: Entries::new(
                &file.usermapping_policy,
                |mapping| &mapping.name,
                problems,
                usermapping,
            ),
            channels: Entries::new(
                &file.channel_policy,
                |channels| &channels.name,
                problems,
                |section, problems| channels(section, &times, problems),
            ),
            audit: Entries::new(
                &file.audit_policy,
                |audit| &audit.name,
                problems,
                |section, _| audit(section),
            ),
            stores: Entries::new(
                &file.credential_store,
                |store| &store.name,
                problems,
                |section, problems| store(directory, section, problems),
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
            target: target(section.target.get()?, protocol)?,
            source: section.source.get()?.0,
            settings: settings?.or_else(|| self.default_settings.clone())?,
            authentication: authentication?,
            usermapping: usermapping?,
            credential_store: store?,
            channels: channels?,
            audit: audit?,
            on_recording_failure: *section.on_recording_failure.get()?,
            on_proxy_down: (*section.on_proxy_down.get()?).or(on_proxy_down)?,
        })
    }
}

fn target(target: &Target, protocol: Protocol) -> Option<TargetPolicy> {
    Some(match target {
        Target::Original => TargetPolicy::Original,
        Target::Fixed(fixed) => {
            TargetPolicy::Fixed { host: fixed.address.get()?.clone(), port: port(&fixed.port)? }
        }
        Target::Inband(inband) => TargetPolicy::Inband(InbandTargets {
            allowed: inband.allowed.get()?.0.clone(),
            exceptions: inband.exceptions.get()?.clone(),
            dns_suffixes: inband.dns_suffixes.get()?.clone(),
            default_port: protocol.default_port(),
        }),
    })
}

fn default_settings() -> Option<SshSettings> {
    let document = DeValue::Table(DeTable::parse(DEFAULT_SETTINGS).ok()?.into_inner());
    let node = Node { value: &document, span: None, key: String::new() };
    settings(&file::Settings::read(&node, &mut Problems::default())?)
}

fn settings(section: &file::Settings) -> Option<SshSettings> {
    let (client, server) = (section.client_side.get()?, section.server_side.get()?);
    Some(SshSettings {
        name: section.name.get()?.0.clone(),
        pre_channel_check: *section.pre_channel_check.get()?,
        banner: section.banner.get()?.as_ref().map(|banner| banner.0.clone()),
        version: section.version.get()?.as_ref().map(|version| version.0.clone()),
        client_side: ClientSide {
            algorithms: algorithms(&client.kex, &client.ciphers, &client.macs)?,
            host_keys: client.host_keys.get()?.clone(),
        },
        server_side: ServerSide {
            algorithms: algorithms(&server.kex, &server.ciphers, &server.macs)?,
            host_key_check: *server.host_key_check.get()?,
        },
        environment: section.environment.get()?.clone(),
    })
}

fn algorithms(
    kex: &Field<Vec<Kex>>,
    ciphers: &Field<Vec<Cipher>>,
    macs: &Field<Vec<Mac>>,
) -> Option<Algorithms> {
    Some(Algorithms {
        kex: kex.get()?.iter().map(|kex| kex.0.to_owned()).collect(),
        ciphers: ciphers.get()?.iter().map(|cipher| cipher.0.to_owned()).collect(),
        macs: macs.get()?.iter().map(|mac| mac.0.to_owned()).collect(),
    })
}

fn authentication(section: &file::Authentication) -> Option<AuthenticationPolicy> {
    let gateway = match section.gateway.get()? {
        Gateway::None => GatewayAuthentication::None,
        Gateway::AnyOf(methods) => {
            GatewayAuthentication::AnyOf(methods.iter().map(gateway_method).collect::<Option<_>>()?)
        }
    };
    Some(AuthenticationPolicy {
        name: section.name.get()?.0.clone(),
        gateway,
        server: section.server.get()?.0.clone(),
    })
}

fn gateway_method(section: &file::GatewayMethod) -> Option<GatewayMethod> {
    let backend = *section.backend.get()?;
    Some(match section.method.get()? {
        GatewayMethodKind::Password => GatewayMethod::Password(backend),
        GatewayMethodKind::PublicKey => GatewayMethod::PublicKey(backend),
    })
}

fn user(section: &file::User, problems: &mut Problems) -> Option<User> {
    let hash = section.password_hash.get()?;
    let keys = section.public_keys.get()?;
    let name = section.name.get()?;
    if hash.is_none() && keys.is_empty() {
        let message = "has neither a password nor a public key, so nobody can log in as this user";
        problems.warning(&section.name.span, &section.name.key, message);
    }
    Some(User {
        name: name.0.clone(),
        password_hash: hash.as_ref().map(|hash| hash.0.clone()),
        public_keys: keys.iter().map(|line| line.key.clone()).collect(),
        groups: names(&section.groups)?,
    })
}

fn usermapping(section: &file::Usermapping, problems: &mut Problems) -> Option<UsermappingPolicy> {
    let rules = section.rules.get()?;
    let allow_unmapped = *section.allow_unmapped.get()?;
    let name = section.name.get()?;
    if rules.is_empty() && !allow_unmapped {
        let message = "has no rules and does not allow unmapped users, so it refuses everybody";
        problems.warning(&section.name.span, &section.name.key, message);
    }
    let rules = rules.iter().map(usermapping_rule).collect::<Option<_>>()?;
    Some(UsermappingPolicy { name: name.0.clone(), rules, allow_unmapped })
}

fn usermapping_rule(section: &file::UsermappingRule) -> Option<UsermappingRule> {
    let groups = &section.groups.get()?.0;
    Some(UsermappingRule {
        remote_user: section.remote_user.get()?.clone(),
        groups: groups.iter().map(|group| group.0.clone()).collect(),
    })
}

fn channels(
    section: &file::Channels,
    times: &Entries<TimePolicy>,
    problems: &mut Problems,
) -> Option<ChannelPolicy> {
    // Every rule is resolved before giving up, so that each bad reference is noted.
    let rules: Vec<Option<ChannelRule>> = section
        .rule
        .get()?
        .0
        .iter()
        .map(|rule| {
            let time = times.find_optional(&rule.time, problems);
            Some(ChannelRule {
                kind: *rule.r#type.get()?,
                from: rule.from.get()?.clone(),
                gateway_groups: names(&rule.gateway_groups)?,
                remote_users: rule.remote_users.get()?.clone(),
                targets: rule.targets.get()?.clone(),
                time: time?,
                record: *rule.record.get()?,
            })
        })
        .collect();
    let rules = rules.into_iter().collect::<Option<_>>()?;
    Some(ChannelPolicy { name: section.name.get()?.0.clone(), rules })
}

fn time(section: &file::Time, problems: &mut Problems) -> Option<TimePolicy> {
    let week = Week {
        monday: section.monday.get()?.clone(),
        tuesday: section.tuesday.get()?.clone(),
        wednesday: section.wednesday.get()?.clone(),
        thursday: section.thursday.get()?.clone(),
        friday: section.friday.get()?.clone(),
        saturday: section.saturday.get()?.clone(),
        sunday: section.sunday.get()?.clone(),
    };
    let (name, zone) = (section.name.get()?, section.zone.get()?);
    if week == Week::default() {
        let message = "has no ranges on any day, so it is never open";
        problems.warning(&section.name.span, &section.name.key, message);
    }
    Some(TimePolicy { name: name.0.clone(), zone: zone.0.clone(), week })
}

fn audit(section: &file::Audit) -> Option<AuditPolicy> {
    Some(AuditPolicy {
        name: section.name.get()?.0.clone(),
        recipients: groups(&section.recipients.get()?.0),
        upstream_recipients: groups(section.upstream_recipients.get()?),
        sign: *section.sign.get()?,
    })
}

fn groups(groups: &[NonEmpty<Recipient>]) -> Vec<RecipientGroup> {
    groups.iter().map(|group| group.0.iter().map(|member| member.0.clone()).collect()).collect()
}

fn store(
    directory: &Path,
    section: &file::Credentials,
    problems: &mut Problems,
) -> Option<CredentialStore> {
    let entries: Vec<Option<CredentialEntry>> = section
        .entry
        .get()?
        .iter()
        .map(|entry| {
            let key_file = directory.join(&entry.key_file.get()?.0);
            semantic::check_secret_file(&key_file, &entry.key_file, problems);
            Some(CredentialEntry {
                host: entry.host.get()?.clone(),
                user: entry.user.get()?.0.clone(),
                key_file,
            })
        })
        .collect();
    let entries = entries.into_iter().collect::<Option<_>>()?;
    Some(CredentialStore { name: section.name.get()?.0.clone(), entries })
}

fn steering(
    directory: &Path,
    section: &file::Steering,
    problems: &mut Problems,
) -> Option<Steering> {
    let bridge = section.bridge.get()?;
    let interfaces = |field: &Field<Vec<Interface>>| -> Option<Vec<String>> {
        Some(field.get()?.iter().map(|interface| interface.0.clone()).collect())
    };
    let client_interfaces = interfaces(&section.client_interfaces)?;
    let server_interfaces = interfaces(&section.server_interfaces)?;
    let mode = match (*section.mode.get()?, bridge) {
        (Mode::Router, _) => SteeringMode::Router { client_interfaces, server_interfaces },
        (Mode::Bridge, Some(bridge)) => SteeringMode::Bridge { bridge: bridge.0.clone() },
        (Mode::Bridge, None) => {
            problems.missing(&section.bridge.span, &section.bridge.key);
            return None;
        }
    };
    Some(Steering {
        mode,
        on_proxy_down: *section.on_proxy_down.get()?,
        mark: section.mark.get()?.0,
        table: section.table.get()?.0,
        pin_directory: path(directory, &section.pin_directory)?,
        listen_port: port(&section.listen_port)?,
    })
}

fn limits(section: &file::Limits) -> Option<Limits> {
    Some(Limits {
        sessions: count(&section.sessions)?,
        sessions_per_client: count(&section.sessions_per_client)?,
        handshakes: count(&section.handshakes)?,
        handshake_timeout: seconds(&section.handshake_timeout_s)?,
        authentication_timeout: seconds(&section.authentication_timeout_s)?,
        question_timeout: seconds(&section.question_timeout_s)?,
        connect_timeout: seconds(&section.connect_timeout_s)?,
        idle_timeout: Some(seconds(&section.idle_timeout_s)?).filter(|limit| !limit.is_zero()),
        authentication_attempts: section.authentication_attempts.get()?.0,
        drain_timeout: seconds(&section.drain_timeout_s)?,
    })
}

fn storage(directory: &Path, section: &file::Storage) -> Option<Storage> {
    Some(Storage {
        database: directory.join(&section.database.get()?.0),
        trails: directory.join(&section.trails.get()?.0),
        spool: path(directory, &section.spool)?,
        control_socket: path(directory, &section.control_socket)?,
        signing_key_file: path(directory, &section.signing_key_file)?,
    })
}

fn names(field: &Field<Vec<Name>>) -> Option<Vec<String>> {
    Some(field.get()?.iter().map(|name| name.0.clone()).collect())
}

fn path(directory: &Path, field: &Field<FilePath>) -> Option<PathBuf> {
    Some(directory.join(&field.get()?.0))
}

fn seconds<const MIN: u32, const MAX: u32>(field: &Field<Int<MIN, MAX>>) -> Option<Duration> {
    Some(Duration::from_secs(u64::from(field.get()?.0)))
}

fn count<const MIN: u32, const MAX: u32>(field: &Field<Int<MIN, MAX>>) -> Option<usize> {
    usize::try_from(field.get()?.0).ok()
}

fn port<const MIN: u32, const MAX: u32>(field: &Field<Int<MIN, MAX>>) -> Option<u16> {
    u16::try_from(field.get()?.0).ok()
}

/// The whole file as TOML, defaults written out, without secrets.
fn effective(file: &File) -> String {
    let mut text = String::new();
    write_table(&mut text, &file.steering);
    write_table(&mut text, &file.limits);
    write_table(&mut text, &file.storage);
    write_list(&mut text, &file.connection_policy);
    write_list(&mut text, &file.settings_policy);
    write_list(&mut text, &file.authentication_policy);
    write_list(&mut text, &file.user);
    write_list(&mut text, &file.usermapping_policy);
    write_list(&mut text, &file.channel_policy);
    write_list(&mut text, &file.time_policy);
    write_list(&mut text, &file.audit_policy);
    write_list(&mut text, &file.credential_store);
    text
}

fn write_table<S: Section>(text: &mut String, table: &Field<S>) {
    if let Some(section) = table.get() {
        write_section(text, &format!("[{}]", table.key), section);
    }
}

fn write_list<S: Section>(text: &mut String, list: &Field<Vec<S>>) {
    for section in list.get().into_iter().flatten() {
        write_section(text, &format!("[[{}]]", list.key), section);
    }
}

fn write_section<S: Section>(text: &mut String, header: &str, section: &S) {
    if !text.is_empty() {
        text.push('\n');
    }
    text.push_str(header);
    text.push('\n');
    for (key, value) in section.write_keys() {
        text.push_str(&format!("{key} = {value}\n"));
    }
}
