//! Why a session or a channel was refused: a stable code, and a text for the user.

use std::fmt;

/// Declares the reasons once, so that the enum, its list, codes and texts cannot drift apart.
macro_rules! deny_reasons {
    ($($variant:ident, $code:literal, $text:literal;)+) => {
        /// A verdict that stops a session or refuses a channel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum DenyReason {
            $(
                #[doc = $text]
                $variant,
            )+
        }

        impl DenyReason {
            /// Every reason, in the order in which a session can meet them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name used in records, metrics and logs.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self {
                    $(Self::$variant => $code,)+
                }
            }

            /// What the user is told; names no account, group or rule.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }
        }
    };
}

deny_reasons! {
    NoConnectionPolicy, "no-connection-policy", "no connection policy matches this connection";
    TooManySessions, "too-many-sessions", "the gateway has reached its limit of sessions";
    TooManySessionsFromClient, "too-many-sessions-from-client",
        "too many sessions from this client address";
    TooManyHandshakes, "too-many-handshakes",
        "too many connections are waiting for authentication, try again later";
    NotThisProtocol, "not-this-protocol", "the client does not speak the protocol of this service";
    HandshakeTimeout, "handshake-timeout", "the handshake took too long";
    UserNameInvalid, "user-name-invalid", "the user name cannot be understood";
    GatewayAuthenticationFailed, "gateway-authentication-failed",
        "gateway authentication failed";
    AuthenticationTimeout, "authentication-timeout", "authentication took too long";
    TooManyAttempts, "too-many-attempts", "too many failed authentication attempts";
    NoTarget, "no-target", "no target server was named";
    TargetNotAllowed, "target-not-allowed", "the requested target server is not allowed";
    TargetNotResolved, "target-not-resolved",
        "the name of the target server cannot be resolved";
    TargetAddressRefused, "target-address-refused",
        "the address of the target server cannot be used as a target";
    UserNotMapped, "user-not-mapped", "you may not log in to the server as this user";
    ChannelTypeNotAllowed, "channel-type-not-allowed", "this type of channel is not allowed";
    ClientNotAllowed, "client-not-allowed", "this channel is not allowed from your address";
    GroupNotAllowed, "group-not-allowed", "this channel is not allowed for your groups";
    RemoteUserNotAllowed, "remote-user-not-allowed",
        "this channel is not allowed for this user on the server";
    ServerNotAllowed, "server-not-allowed", "this channel is not allowed on this server";
    CommandNotAllowed, "command-not-allowed", "this command is not allowed";
    SubsystemNotAllowed, "subsystem-not-allowed", "this subsystem is not allowed";
    EndpointNotAllowed, "endpoint-not-allowed", "forwarding to or from there is not allowed";
    OriginatorNotAllowed, "originator-not-allowed",
        "connections that come from there are not allowed";
    OutsideTime, "outside-time", "access is not allowed at this time";
    FourEyesBusy, "four-eyes-busy", "too much of this session waits for approval already";
    FourEyesTooLong, "four-eyes-too-long",
        "it is too long to be shown whole to somebody who would have to approve of it";
    FourEyesMissing, "four-eyes-missing", "nobody has approved of it";
    FourEyesRefused, "four-eyes-refused", "the authorizer has refused";
    FourEyesTimeout, "four-eyes-timeout", "nobody has approved of it in time";
    FourEyesWithdrawn, "four-eyes-withdrawn", "it was given up before anybody approved of it";
    HostKeyUnknown, "host-key-unknown", "the host key of the server is not known";
    HostKeyChanged, "host-key-changed", "the host key of the server has changed";
    HostCertificateRefused, "host-certificate-refused",
        "the certificate of the server's host key is not valid";
    NoCredential, "no-credential", "no stored credential fits this user and server";
    NoTicket, "no-ticket",
        "the client does not delegate a kerberos ticket, which the server is logged in to with";
    NoAgent, "no-agent",
        "the client does not forward an agent, whose keys the server is logged in to with";
    ServerAuthenticationFailed, "server-authentication-failed",
        "the server refused the authentication";
}

impl fmt::Display for DenyReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::DenyReason;
    use std::collections::HashSet;

    #[test]
    fn codes_are_unique_words_joined_by_hyphens() {
        let mut seen = HashSet::new();
        for reason in DenyReason::ALL {
            let code = reason.code();
            assert!(seen.insert(code), "{code} is used twice");
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{code}");
        }
    }

    #[test]
    fn texts_are_lower_case_without_full_stop() {
        for reason in DenyReason::ALL {
            let text = reason.text();
            assert!(text.chars().next().is_some_and(char::is_lowercase), "{text}");
            assert!(!text.ends_with('.'), "{text}");
        }
    }
}
