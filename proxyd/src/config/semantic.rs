//! Checks between the sections of a file: mixes that cannot work, and parts that have no effect.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use proxyd_policy::channel::{ChannelKind, ChannelPolicy};
use proxyd_policy::connection::{ConnectionPolicy, SourcePolicy};
use proxyd_policy::gateway::{
    AuthenticationPolicy, GatewayAuthentication, GatewayMethod, ServerMethod,
};

use steering_common::limits::SOCKET_MARK;

use super::FastPath;
use super::choice::{Interface, Mode};
use super::file::{self, File};
use super::report::Problems;
use super::section::Field;

/// Names that a help text lists before it stops.
const HELP_NAMES_MAX: usize = 10;

/// Permission bits of a file that let others than its owner in.
const OTHERS_MODE: u32 = 0o077;

/// A help text with the names that exist.
pub(super) fn name_help(names: &[&str]) -> String {
    if names.is_empty() {
        return "there is none at all".to_owned();
    }
    let shown: Vec<&str> = names.iter().copied().take(HELP_NAMES_MAX).collect();
    let more = names.len() - shown.len();
    match more {
        0 => format!("there is: {}", shown.join(", ")),
        _ => format!("there is: {}, and {more} more", shown.join(", ")),
    }
}

/// Notes names that two connection policies have.
pub(super) fn check_names(sections: &[file::Connection], problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for field in sections.iter().map(|section| &section.name) {
        let Some(name) = field.get() else { continue };
        if !seen.insert(&name.0) {
            let message = format!("\"{}\" is the name of an earlier entry too", name.0);
            problems.error(&field.span, &field.key, message);
        }
    }
}

/// Notes connection policies that can never match, because an earlier one covers them.
pub(super) fn check_order(
    list: &Field<Vec<file::Connection>>,
    connections: &[Option<Arc<ConnectionPolicy>>],
    problems: &mut Problems,
) {
    let sections = list.get().map(Vec::as_slice).unwrap_or_default();
    if list.get().is_some() && sections.is_empty() {
        problems.warning(&list.span, &list.key, "there is none, so nothing is inspected");
    }
    let mut earlier: Vec<&ConnectionPolicy> = Vec::new();
    for (section, policy) in sections.iter().zip(connections) {
        let Some(policy) = policy else { continue };
        if let Some(cover) = earlier.iter().find(|earlier| earlier.covers(policy)) {
            let message = format!(
                "can never match, because the earlier \"{}\" matches everything it would",
                cover.name
            );
            problems.warning(&section.name.span, &section.name.key, message);
        }
        earlier.push(policy);
    }
}

/// Notes a mark that packets and sockets cannot share.
pub(super) fn check_mark(file: &File, problems: &mut Problems) {
    let Some(section) = file.steering.get() else { return };
    let field = &section.mark;
    let Some(mark) = field.get().map(|mark| mark.0) else { return };
    if !mark.is_power_of_two() {
        problems.error(&field.span, &field.key, "is not a single bit");
    } else if mark == SOCKET_MARK {
        problems.error(&field.span, &field.key, "is the bit that marks proxyd's own sockets");
    }
}

/// Notes algorithms that clients are offered and that are weak: they are for old servers.
pub(super) fn check_client_algorithms(section: &file::ClientSide, problems: &mut Problems) {
    let kex = section.kex.get().into_iter().flatten();
    let kex = kex.filter(|kex| kex.0.is_legacy()).map(|kex| kex.0.name());
    warn_weak(&section.kex, kex, problems);
    let ciphers = section.ciphers.get().into_iter().flatten();
    let ciphers = ciphers.filter(|cipher| cipher.0.is_legacy()).map(|cipher| cipher.0.name());
    warn_weak(&section.ciphers, ciphers, problems);
    let macs = section.macs.get().into_iter().flatten();
    let macs = macs.filter(|mac| mac.0.is_legacy()).map(|mac| mac.0.name());
    warn_weak(&section.macs, macs, problems);
}

fn warn_weak<T>(
    field: &Field<T>,
    names: impl Iterator<Item = &'static str>,
    problems: &mut Problems,
) {
    let names: Vec<&str> = names.collect();
    if !names.is_empty() {
        let message = format!("offers clients what is weak: {}", names.join(", "));
        problems.warning(&field.span, &field.key, message);
    }
}

/// Notes audit policies that ask for trails that prove nothing.
pub(super) fn check_signing(list: &Field<Vec<file::Audit>>, problems: &mut Problems) {
    for field in list.get().into_iter().flatten().map(|section| &section.sign) {
        if field.get() == Some(&false) {
            problems.error(&field.span, &field.key, "cannot be false: every trail is signed");
        }
    }
}

/// Notes certificates that an authentication policy cannot make, or that nobody can use.
pub(super) fn check_certificates(
    section: &file::Authentication,
    policy: &AuthenticationPolicy,
    problems: &mut Problems,
) {
    let file = &section.user_ca_key_file;
    match (policy.server.contains(&ServerMethod::Certificate), &policy.user_ca_key_file) {
        (true, None) => {
            let message = "missing key: \"certificate\" in server needs the key of a CA";
            problems.error(&file.span, &file.key, message);
        }
        (false, Some(_)) => {
            let message = "has no effect without \"certificate\" in server";
            problems.warning(&file.span, &file.key, message);
        }
        (true, Some(_)) | (false, None) => {}
    }
    let is_key = |method: &GatewayMethod| matches!(method, GatewayMethod::PublicKey(_));
    let takes_keys = policy.gateway.methods().iter().any(is_key);
    if !policy.trusted_user_cas.is_empty() && !takes_keys {
        let field = &section.trusted_user_cas;
        let message = "has no effect without the method \"publickey\" in gateway";
        problems.warning(&field.span, &field.key, message);
    }
}

/// Whether Kerberos tickets are taken at the gateway.
pub(super) fn takes_tickets(gateway: &GatewayAuthentication) -> bool {
    gateway.methods().iter().any(|method| matches!(method, GatewayMethod::Kerberos(_)))
}

/// Notes tickets that an authentication policy could not judge, or would never see.
pub(super) fn check_kerberos(
    section: &file::Authentication,
    policy: &AuthenticationPolicy,
    problems: &mut Problems,
) {
    let takes = takes_tickets(&policy.gateway);
    let (keytab, realms) = (&section.keytab_file, &section.realms);
    let lacks_keytab = matches!(keytab.get(), Some(None));
    let lacks_realms = realms.get().is_some_and(Vec::is_empty);
    if takes && lacks_keytab {
        let message = "missing key: \"gssapi-with-mic\" in gateway needs the keys of services";
        problems.error(&keytab.span, &keytab.key, message);
    }
    if takes && lacks_realms {
        let message = "missing key: \"gssapi-with-mic\" in gateway needs a realm to trust";
        problems.error(&realms.span, &realms.key, message);
    }
    let no_effect = "has no effect without \"gssapi-with-mic\" in gateway";
    if !takes && !lacks_keytab {
        problems.warning(&keytab.span, &keytab.key, no_effect);
    }
    if !takes && !lacks_realms {
        problems.warning(&realms.span, &realms.key, no_effect);
    }
    if !takes && policy.server.contains(&ServerMethod::Kerberos) {
        let message = "\"gssapi-with-mic\" uses the ticket that a client delegates at the gateway, \
                       and gateway takes none";
        problems.error(&section.server.span, &section.server.key, message);
    }
}

/// Notes what a connection policy asks of its authentication policy and cannot get.
pub(super) fn check_authentication(
    section: &file::Connection,
    authentication: &AuthenticationPolicy,
    problems: &mut Problems,
) {
    let name = &authentication.name;
    let unauthenticated = authentication.gateway == GatewayAuthentication::None;
    let allowed = section.allow_unauthenticated_gateway.get();
    let store = &section.credential_store;
    let uses_store = matches!(store.get(), Some(Some(_)));
    if uses_store && unauthenticated && allowed == Some(&false) {
        let message = format!(
            "authentication policy \"{name}\" has no gateway authentication, so anybody who can \
             connect would use the stored credentials"
        );
        let help = "add gateway authentication, or write allow_unauthenticated_gateway = true";
        problems.error_with_help(&store.span, &store.key, message, help);
    }
    let field = &section.allow_unauthenticated_gateway;
    let makes_certificates = authentication.server.contains(&ServerMethod::Certificate);
    if makes_certificates && unauthenticated && allowed == Some(&false) {
        let message = format!(
            "authentication policy \"{name}\" has no gateway authentication, so anybody who can \
             connect would log in by \"certificate\""
        );
        let help = "add gateway authentication, or write allow_unauthenticated_gateway = true";
        let key = &section.authentication;
        problems.error_with_help(&key.span, &key.key, message, help);
    }
    if allowed == Some(&true) && !(unauthenticated && (uses_store || makes_certificates)) {
        let message = "has no effect without a credential store or certificates, and gateway = \
                       \"none\"";
        problems.warning(&field.span, &field.key, message);
    }
    let offers_key = authentication.server.contains(&ServerMethod::PublicKey);
    if offers_key && matches!(store.get(), Some(None)) {
        let message = format!(
            "authentication policy \"{name}\" logs in to servers by \"publickey\", which needs a \
             credential_store here"
        );
        problems.error(&section.authentication.span, &section.authentication.key, message);
    }
    check_agent(section, authentication, problems);
    if uses_store && !offers_key {
        let message = format!(
            "is never used, because authentication policy \"{name}\" does not log in to servers \
             by \"publickey\""
        );
        problems.warning(&store.span, &store.key, message);
    }
    if unauthenticated && matches!(section.usermapping.get(), Some(Some(_))) {
        let message = format!(
            "usermapping needs gateway authentication, and authentication policy \"{name}\" has \
             none"
        );
        problems.error(&section.usermapping.span, &section.usermapping.key, message);
    }
}

/// Notes an authentication policy whose clients could not be asked for their agent, or would be let
/// in without a proof.
fn check_agent(
    section: &file::Connection,
    authentication: &AuthenticationPolicy,
    problems: &mut Problems,
) {
    let methods = &authentication.server;
    if !methods.contains(&ServerMethod::PublicKeyAgent) {
        return;
    }
    let field = &section.authentication;
    let name = &authentication.name;
    if authentication.gateway == GatewayAuthentication::None {
        let message = format!(
            "authentication policy \"{name}\" uses the client's agent, which is asked only once \
             the client is let in, and has no gateway authentication"
        );
        problems.error(&field.span, &field.key, message);
    }
    let by_itself = [ServerMethod::Certificate, ServerMethod::PublicKey, ServerMethod::Kerberos];
    let fits = methods.split_last().is_some_and(|(last, before)| {
        *last == ServerMethod::PublicKeyAgent
            && before.iter().all(|method| by_itself.contains(method))
    });
    if !fits {
        let message = format!(
            "authentication policy \"{name}\" has methods beside \"publickey-agent\" that cannot \
             be used with it: only \"certificate\", \"publickey\" and \"gssapi-with-mic\" may \
             stand, before it"
        );
        problems.error(&field.span, &field.key, message);
    }
}

/// Notes conditions of a channel rule that its type of channel does not have.
///
/// An error: whoever wrote one believes that it keeps something out.
pub(super) fn check_conditions(rule: &file::ChannelRule, problems: &mut Problems) {
    use ChannelKind::{LocalForward, RemoteForward, SessionExec, SessionExecScp, SessionSubsystem};
    let Some(&kind) = rule.r#type.get() else { return };
    let forwards = [LocalForward, RemoteForward].contains(&kind);
    let has_commands = [SessionExec, SessionExecScp].contains(&kind);
    refuse_list(&rule.commands, has_commands, kind, problems);
    refuse_list(&rule.subsystems, kind == SessionSubsystem, kind, problems);
    refuse_list(&rule.endpoints, forwards, kind, problems);
    refuse_list(&rule.sockets, forwards, kind, problems);
    let copies = [ChannelKind::SessionSftp, SessionExecScp].contains(&kind);
    if !copies && matches!(rule.files.get(), Some(Some(_))) {
        let message = format!("channels of type \"{kind}\" copy no files");
        problems.error(&rule.files.span, &rule.files.key, message);
    }
    refuse_list(&rule.originators, forwards || kind == ChannelKind::X11, kind, problems);
}

fn refuse_list<T>(field: &Field<Vec<T>>, fits: bool, kind: ChannelKind, problems: &mut Problems) {
    if !fits && field.get().is_some_and(|list| !list.is_empty()) {
        problems.error(&field.span, &field.key, format!("channels of type \"{kind}\" have none"));
    }
}

/// Notes what a connection policy asks of its channel policy and cannot get.
pub(super) fn check_channels(
    section: &file::Connection,
    channels: &ChannelPolicy,
    authentication: Option<&AuthenticationPolicy>,
    problems: &mut Problems,
) {
    let name = &channels.name;
    if channels.records() && matches!(section.audit.get(), Some(None)) {
        let message = format!("missing key: channel policy \"{name}\" records channels");
        let help = "name an [[audit_policy]], or write record = false in the rules";
        problems.error_with_help(&section.audit.span, &section.audit.key, message, help);
    }
    let unauthenticated = authentication
        .is_some_and(|authentication| authentication.gateway == GatewayAuthentication::None);
    if unauthenticated && channels.rules.iter().any(|rule| !rule.gateway_groups.is_empty()) {
        let message = format!(
            "channel policy \"{name}\" has rules for gateway_groups, which never apply without \
             gateway authentication"
        );
        problems.warning(&section.channels.span, &section.channels.key, message);
    }
}

/// Notes interfaces that the mode needs and lacks, or has and ignores.
pub(super) fn check_interfaces(file: &File, problems: &mut Problems) {
    let Some(section) = file.steering.get() else { return };
    let (clients, servers) = (&section.client_interfaces, &section.server_interfaces);
    match section.mode.get() {
        Some(Mode::Router) => {
            if clients.get().is_some_and(Vec::is_empty) {
                let message = "router mode needs the interfaces where packets from clients arrive";
                problems.error(&clients.span, &clients.key, message);
            }
            if servers.get().is_some_and(Vec::is_empty) && keeps_client(&file.connection_policy) {
                let message = "a connection policy keeps the client's address, which needs the \
                               interfaces where packets from servers arrive";
                problems.error(&servers.span, &servers.key, message);
            }
            if matches!(section.bridge.get(), Some(Some(_))) {
                let message = "is ignored in router mode";
                problems.warning(&section.bridge.span, &section.bridge.key, message);
            }
        }
        Some(Mode::Bridge) => {
            if matches!(section.bridge.get(), Some(None)) {
                problems.missing(&section.bridge.span, &section.bridge.key);
            }
            let fast_path = &section.fast_path;
            if fast_path.get().is_some_and(|path| *path != FastPath::Off) {
                let message = "is for router mode: a bridge has no stack to be spared";
                problems.error(&fast_path.span, &fast_path.key, message);
            }
            ignored_in_bridge_mode(clients, problems);
            ignored_in_bridge_mode(servers, problems);
        }
        None => {}
    }
}

/// Says whether the server sees the client's own address under some connection policy.
fn keeps_client(list: &Field<Vec<file::Connection>>) -> bool {
    let keeps = |section: &file::Connection| {
        section.source.get().is_some_and(|source| source.0 == SourcePolicy::Client)
    };
    list.get().is_some_and(|sections| sections.iter().any(keeps))
}

/// Notes interfaces that only router mode uses.
fn ignored_in_bridge_mode(field: &Field<Vec<Interface>>, problems: &mut Problems) {
    if field.get().is_some_and(|interfaces| !interfaces.is_empty()) {
        let message = "is ignored in bridge mode, where the ports of the bridge are used";
        problems.warning(&field.span, &field.key, message);
    }
}

/// Notes a secret that is not there, or that others can read; a warning, because the file may be
/// checked on another machine than it is used on.
pub(super) fn check_secret_file<T>(path: &Path, field: &Field<T>, problems: &mut Problems) {
    let message = match fs::metadata(path) {
        Err(error) => format!("cannot look at {}: {error}", path.display()),
        Ok(metadata) if metadata.permissions().mode() & OTHERS_MODE != 0 => {
            format!("{} can be read or written by others than its owner", path.display())
        }
        Ok(_) => return,
    };
    problems.warning(&field.span, &field.key, message);
}
