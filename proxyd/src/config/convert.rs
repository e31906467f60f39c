//! From the sections of a file to the types the daemon works with, one function per section.
//!
//! Each gives nothing when a value it needs was bad, which has been noted then.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proxyd_policy::audit::{AuditPolicy, RecipientGroup};
use proxyd_policy::channel::{ChannelPolicy, ChannelRule, Conditions};
use proxyd_policy::connection::Protocol;
use proxyd_policy::credential::{CredentialEntry, CredentialStore};
use proxyd_policy::files::FilePolicy;
use proxyd_policy::gateway::{
    AuthenticationPolicy, GatewayAuthentication, GatewayMethod, KerberosPolicy, PublicKey, User,
};
use proxyd_policy::settings::{Algorithms, ClientSide, ServerSide, SshSettings};
use proxyd_policy::target::{InbandTargets, TargetPolicy};
use proxyd_policy::time::{TimePolicy, Week};
use proxyd_policy::usermapping::{UsermappingPolicy, UsermappingRule};
use toml::de::{DeTable, DeValue};

use super::choice::{
    Cipher, Gateway, GatewayMethodKind, GatewayRequire, Interface, Kex, Mac, Mode, Target,
};
use super::entries::Entries;
use super::file;
use super::keys::{PublicKeyLine, Recipient};
use super::place::DatabaseUrl;
use super::report::Problems;
use super::section::Field;
use super::semantic;
use super::value::{FilePath, Int, Name, Node, NonEmpty, Value as _};
use super::{Database, Limits, Steering, SteeringMode, Storage};

/// What a connection policy without settings policy uses: every default of that section.
const DEFAULT_SETTINGS: &str = "name = \"default\"\nprotocol = \"ssh\"\n";

/// How the server of sessions of `protocol` is chosen.
pub(super) fn target(target: &Target, protocol: Protocol) -> Option<TargetPolicy> {
    Some(match target {
        Target::Original => TargetPolicy::Original,
        Target::Fixed(fixed) => {
            TargetPolicy::Fixed { host: fixed.address.get()?.clone(), port: port(&fixed.port)? }
        }
        Target::Inband(inband) => TargetPolicy::Inband(InbandTargets {
            allowed: inband.allowed.get()?.0.clone(),
            exceptions: inband.exceptions.get()?.clone(),
            reserved: inband.reserved_addresses.get()?.clone(),
            dns_suffixes: inband.dns_suffixes.get()?.clone(),
            default_port: protocol.default_port(),
        }),
    })
}

/// The settings of a connection policy that names no settings policy.
pub(super) fn default_settings() -> Option<SshSettings> {
    let document = DeValue::Table(DeTable::parse(DEFAULT_SETTINGS).ok()?.into_inner());
    let node = Node { value: &document, span: None, key: String::new() };
    let problems = &mut Problems::default();
    settings(Path::new(""), &file::Settings::read(&node, problems)?, problems)
}

/// One settings policy; notes weak algorithms that clients are offered, and key files that are
/// missing or open to others.
pub(super) fn settings(
    directory: &Path,
    section: &file::Settings,
    problems: &mut Problems,
) -> Option<SshSettings> {
    let (client, server) = (section.client_side.get()?, section.server_side.get()?);
    semantic::check_client_algorithms(client, problems);
    Some(SshSettings {
        name: section.name.get()?.0.clone(),
        pre_channel_check: *section.pre_channel_check.get()?,
        banner: section.banner.get()?.as_ref().map(|banner| banner.0.clone()),
        version: section.version.get()?.as_ref().map(|version| version.0.clone()),
        client_side: ClientSide {
            algorithms: algorithms(&client.kex, &client.ciphers, &client.macs)?,
            host_keys: client.host_keys.get()?.clone(),
            host_key_files: secret_files(directory, &client.host_key_files, problems)?,
            host_ca_key_file: secret_file(directory, &client.host_ca_key_file, problems)?,
            host_names: names(&client.host_names)?,
        },
        server_side: ServerSide {
            algorithms: algorithms(&server.kex, &server.ciphers, &server.macs)?,
            legacy: *server.legacy.get()?,
            rekey: *server.rekey.get()?,
            host_key_check: *server.host_key_check.get()?,
            trusted_host_cas: public_keys(&server.trusted_host_cas)?,
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
        kex: kex.get()?.iter().map(|kex| kex.0.name().to_owned()).collect(),
        ciphers: ciphers.get()?.iter().map(|cipher| cipher.0.name().to_owned()).collect(),
        macs: macs.get()?.iter().map(|mac| mac.0.name().to_owned()).collect(),
    })
}

/// One authentication policy; notes a demand for all of less than two ways, and what certificates
/// lack.
pub(super) fn authentication(
    directory: &Path,
    section: &file::Authentication,
    problems: &mut Problems,
) -> Option<AuthenticationPolicy> {
    let require = *section.gateway_require.get()?;
    let gateway = match section.gateway.get()? {
        Gateway::None => GatewayAuthentication::None,
        Gateway::Methods(methods) => {
            let methods = methods.iter().map(gateway_method).collect::<Option<_>>()?;
            match require {
                GatewayRequire::Any => GatewayAuthentication::AnyOf(methods),
                GatewayRequire::All => GatewayAuthentication::AllOf(methods),
            }
        }
    };
    let kinds: HashSet<_> = gateway.methods().iter().map(std::mem::discriminant).collect();
    if require == GatewayRequire::All && kinds.len() < 2 {
        let message = "has no effect with less than two methods in gateway";
        let field = &section.gateway_require;
        problems.warning(&field.span, &field.key, message);
    }
    let kerberos = kerberos(directory, section, &gateway, problems)?;
    let policy = AuthenticationPolicy {
        name: section.name.get()?.0.clone(),
        gateway,
        trusted_user_cas: public_keys(&section.trusted_user_cas)?,
        kerberos,
        server: section.server.get()?.0.clone(),
        user_ca_key_file: secret_file(directory, &section.user_ca_key_file, problems)?,
    };
    semantic::check_certificates(section, &policy, problems);
    semantic::check_kerberos(section, &policy, problems);
    Some(policy)
}

/// What tickets are judged by; nothing where none are taken, or where a part is missing, which is
/// noted elsewhere.
fn kerberos(
    directory: &Path,
    section: &file::Authentication,
    gateway: &GatewayAuthentication,
    problems: &mut Problems,
) -> Option<Option<Arc<KerberosPolicy>>> {
    let realms = section.realms.get()?;
    let Some(keytab_file) = secret_file(directory, &section.keytab_file, problems)? else {
        return Some(None);
    };
    let realms: Vec<String> = realms.iter().map(|realm| realm.0.clone()).collect();
    let is_whole = semantic::takes_tickets(gateway) && !realms.is_empty();
    Some(is_whole.then(|| Arc::new(KerberosPolicy { keytab_file, realms })))
}

fn gateway_method(section: &file::GatewayMethod) -> Option<GatewayMethod> {
    let backend = *section.backend.get()?;
    Some(match section.method.get()? {
        GatewayMethodKind::Password => GatewayMethod::Password(backend),
        GatewayMethodKind::PublicKey => GatewayMethod::PublicKey(backend),
        GatewayMethodKind::Kerberos => GatewayMethod::Kerberos(backend),
    })
}

/// One local user; notes a user nobody can log in as.
pub(super) fn user(section: &file::User, problems: &mut Problems) -> Option<User> {
    let hash = section.password_hash.get()?;
    let keys = section.public_keys.get()?;
    let name = section.name.get()?;
    if hash.is_none() && keys.is_empty() {
        let message = "has neither a password nor a public key, so only a certificate or a \
                       Kerberos ticket lets this user in";
        problems.warning(&section.name.span, &section.name.key, message);
    }
    Some(User {
        name: name.0.clone(),
        password_hash: hash.as_ref().map(|hash| hash.0.clone()),
        public_keys: public_keys(&section.public_keys)?,
        groups: names(&section.groups)?,
    })
}

/// One usermapping policy; notes one that refuses everybody.
pub(super) fn usermapping(
    section: &file::Usermapping,
    problems: &mut Problems,
) -> Option<UsermappingPolicy> {
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

/// One channel policy; its rules refer to `times` and `files`.
pub(super) fn channels(
    section: &file::Channels,
    times: &Entries<TimePolicy>,
    files: &Entries<FilePolicy>,
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
            let files = files.find_optional(&rule.files, problems);
            Some(ChannelRule {
                kind: *rule.r#type.get()?,
                from: rule.from.get()?.clone(),
                gateway_groups: names(&rule.gateway_groups)?,
                remote_users: rule.remote_users.get()?.clone(),
                targets: rule.targets.get()?.clone(),
                time: time?,
                conditions: conditions(rule, problems)?,
                four_eyes: *rule.four_eyes.get()?,
                record: *rule.record.get()?,
                files: files?,
                file_content: *rule.file_content.get()?,
            })
        })
        .collect();
    let rules = rules.into_iter().collect::<Option<_>>()?;
    Some(ChannelPolicy { name: section.name.get()?.0.clone(), rules })
}

/// What a channel rule says of details; notes conditions that its type of channel does not have.
fn conditions(rule: &file::ChannelRule, problems: &mut Problems) -> Option<Conditions> {
    semantic::check_conditions(rule, problems);
    Some(Conditions {
        commands: rule.commands.get()?.clone(),
        subsystems: rule.subsystems.get()?.clone(),
        endpoints: rule.endpoints.get()?.clone(),
        sockets: rule.sockets.get()?.clone(),
        originators: rule.originators.get()?.clone(),
    })
}

/// One time policy; notes one that is never open.
pub(super) fn time(section: &file::Time, problems: &mut Problems) -> Option<TimePolicy> {
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

/// One audit policy.
pub(super) fn audit(section: &file::Audit) -> Option<AuditPolicy> {
    Some(AuditPolicy {
        name: section.name.get()?.0.clone(),
        recipients: groups(&section.recipients.get()?.0),
        upstream_recipients: groups(section.upstream_recipients.get()?),
    })
}

fn groups(groups: &[NonEmpty<Recipient>]) -> Vec<RecipientGroup> {
    groups.iter().map(|group| group.0.iter().map(|member| member.0.clone()).collect()).collect()
}

/// One credential store; notes key files that are missing or open to others.
pub(super) fn store(
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

/// How connections are picked up.
pub(super) fn steering(directory: &Path, section: &file::Steering) -> Option<Steering> {
    let interfaces = |field: &Field<Vec<Interface>>| -> Option<Vec<String>> {
        Some(field.get()?.iter().map(|interface| interface.0.clone()).collect())
    };
    let mode = match section.mode.get()? {
        Mode::Router => SteeringMode::Router {
            client_interfaces: interfaces(&section.client_interfaces)?,
            server_interfaces: interfaces(&section.server_interfaces)?,
        },
        Mode::Bridge => SteeringMode::Bridge { bridge: section.bridge.get()?.as_ref()?.0.clone() },
    };
    Some(Steering {
        mode,
        on_proxy_down: *section.on_proxy_down.get()?,
        fast_path: *section.fast_path.get()?,
        fast_path_unchecked: *section.fast_path_unchecked.get()?,
        mark: section.mark.get()?.0,
        table: section.table.get()?.0,
        pin_directory: path(directory, &section.pin_directory)?,
        table_memory_bytes: count(&section.table_memory_mib)? << 20,
        listen_port: port(&section.listen_port)?,
    })
}

/// Bounds on what this gateway takes on.
pub(super) fn limits(section: &file::Limits) -> Option<Limits> {
    Some(Limits {
        sessions: count(&section.sessions)?,
        sessions_per_client: count(&section.sessions_per_client)?,
        handshakes: count(&section.handshakes)?,
        handshake_timeout: seconds(&section.handshake_timeout_s)?,
        authentication_timeout: seconds(&section.authentication_timeout_s)?,
        question_timeout: seconds(&section.question_timeout_s)?,
        four_eyes_timeout: seconds(&section.four_eyes_timeout_s)?,
        connect_timeout: seconds(&section.connect_timeout_s)?,
        idle_timeout: some_seconds(&section.idle_timeout_s)?,
        session_timeout: some_seconds(&section.session_timeout_s)?,
        authentication_attempts: section.authentication_attempts.get()?.0,
        drain_timeout: seconds(&section.drain_timeout_s)?,
        takeover_drain_timeout: some_seconds(&section.takeover_drain_timeout_s)?,
    })
}

/// Where state and evidence go.
pub(super) fn storage(
    directory: &Path,
    section: &file::Storage,
    problems: &mut Problems,
) -> Option<Storage> {
    let password_file = secret_file(directory, &section.database_password_file, problems)?;
    let database = match (section.database.get()?, password_file) {
        (DatabaseUrl::Sqlite(path), None) => Database::Sqlite(directory.join(path)),
        (DatabaseUrl::Sqlite(_), Some(_)) => {
            let field = &section.database_password_file;
            problems.error(&field.span, &field.key, "a file of SQLite has no password");
            return None;
        }
        (DatabaseUrl::Postgres(url), password_file) => {
            Database::Postgres { url: url.clone(), password_file }
        }
    };
    let index_identity_file = secret_file(directory, &section.index_identity_file, problems)?;
    Some(Storage {
        database,
        index_identity_file,
        node: section.node.get()?.as_ref().map_or_else(host_name, |name| name.0.clone()),
        trails: directory.join(&section.trails.get()?.0),
        spool: path(directory, &section.spool)?,
        control_socket: path(directory, &section.control_socket)?,
        signing_key_file: path(directory, &section.signing_key_file)?,
    })
}

fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_default()
}

fn names(field: &Field<Vec<Name>>) -> Option<Vec<String>> {
    Some(field.get()?.iter().map(|name| name.0.clone()).collect())
}

fn public_keys(field: &Field<Vec<PublicKeyLine>>) -> Option<Vec<PublicKey>> {
    Some(field.get()?.iter().map(|line| line.key.clone()).collect())
}

fn secret_file(
    directory: &Path,
    field: &Field<Option<FilePath>>,
    problems: &mut Problems,
) -> Option<Option<PathBuf>> {
    let file = field.get()?.as_ref().map(|file| directory.join(&file.0));
    file.iter().for_each(|file| semantic::check_secret_file(file, field, problems));
    Some(file)
}

fn secret_files(
    directory: &Path,
    field: &Field<Vec<FilePath>>,
    problems: &mut Problems,
) -> Option<Vec<PathBuf>> {
    let files: Vec<PathBuf> = field.get()?.iter().map(|file| directory.join(&file.0)).collect();
    files.iter().for_each(|file| semantic::check_secret_file(file, field, problems));
    Some(files)
}

fn path(directory: &Path, field: &Field<FilePath>) -> Option<PathBuf> {
    Some(directory.join(&field.get()?.0))
}

fn seconds<const MIN: u32, const MAX: u32>(field: &Field<Int<MIN, MAX>>) -> Option<Duration> {
    Some(Duration::from_secs(u64::from(field.get()?.0)))
}

/// A time limit that 0 switches off.
fn some_seconds<const MIN: u32, const MAX: u32>(
    field: &Field<Int<MIN, MAX>>,
) -> Option<Option<Duration>> {
    Some(Some(seconds(field)?).filter(|limit| !limit.is_zero()))
}

fn count<const MIN: u32, const MAX: u32>(field: &Field<Int<MIN, MAX>>) -> Option<usize> {
    usize::try_from(field.get()?.0).ok()
}

fn port<const MIN: u32, const MAX: u32>(field: &Field<Int<MIN, MAX>>) -> Option<u16> {
    u16::try_from(field.get()?.0).ok()
}
