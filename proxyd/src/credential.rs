//! Secrets that log in to servers, from the local credential store.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use proxyd_policy::admit::Admitted;
use proxyd_ssh::transport::{HostKey, RsaParts};
use ssh_key::private::{KeypairData, RsaKeypair};
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// Why a stored key cannot be used.
#[derive(Debug, ThisError)]
pub enum CredentialError {
    /// Its file cannot be read.
    #[error("cannot read the key file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its file does not hold a private key in OpenSSH form.
    #[error("{path} is not a private key in OpenSSH or PKCS #8 form")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ssh_key::Error,
    },
    /// Its kind cannot be used, or it is locked by a passphrase.
    #[error("the key in {path} is {what}, which cannot be used")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The crypto library refuses it.
    #[error("the key in {path} is refused")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: proxyd_ssh::Error,
    },
}

/// The stored keys for this user on this server, in the order of the store; perhaps none.
pub async fn keys(admitted: &Admitted, authorized: &Authorized) -> Result<Vec<HostKey>, Stop> {
    let Some(store) = admitted.policy().credential_store.as_ref() else { return Ok(Vec::new()) };
    let name = authorized.target().name();
    let address = authorized.target().address().ip();
    let entries = store.find(name, address, authorized.remote_user());
    let files: Vec<PathBuf> = entries.map(|entry| entry.key_file.clone()).collect();
    key_files("credential", files).await
}

/// The private keys in these files, in their order, for `step`.
pub async fn key_files(step: &'static str, files: Vec<PathBuf>) -> Result<Vec<HostKey>, Stop> {
    let read = tokio::task::spawn_blocking(move || {
        files.iter().map(|file| read_key(file)).collect::<Result<Vec<_>, _>>()
    });
    match read.await {
        Ok(keys) => keys.map_err(|error| Stop::gateway(step, error)),
        Err(interrupted) => Err(Stop::gateway(step, interrupted)),
    }
}

fn read_key(path: &Path) -> Result<HostKey, CredentialError> {
    let path = path.to_owned();
    let text = match std::fs::read(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(source) => return Err(CredentialError::Read { path, source }),
    };
    let made = match pkcs8(&text) {
        Some(der) => HostKey::from_pkcs8(&der),
        None => match ssh_key::PrivateKey::from_openssh(&text) {
            Ok(key) => match from_openssh(key.key_data()) {
                Ok(made) => made,
                Err(what) => return Err(CredentialError::Unsupported { path, what }),
            },
            Err(source) => return Err(CredentialError::Parse { path, source }),
        },
    };
    made.map_err(|source| CredentialError::Refused { path, source })
}

/// The key in a file of OpenSSH; fails with what it is where that cannot be used.
fn from_openssh(data: &KeypairData) -> Result<Result<HostKey, proxyd_ssh::Error>, &'static str> {
    match data {
        KeypairData::Ed25519(pair) => Ok(HostKey::from_ed25519_seed(&pair.private.to_bytes())),
        KeypairData::Ecdsa(pair) => {
            Ok(HostKey::from_ecdsa(pair.private_key_bytes(), pair.public_key_bytes()))
        }
        KeypairData::Rsa(pair) => from_rsa(pair).ok_or("an RSA key with a negative number"),
        KeypairData::Encrypted(_) => Err("locked by a passphrase"),
        KeypairData::Other(_) | _ => Err("neither Ed25519, ECDSA nor RSA"),
    }
}

fn from_rsa(pair: &RsaKeypair) -> Option<Result<HostKey, proxyd_ssh::Error>> {
    Some(HostKey::from_rsa(RsaParts {
        n: pair.public.n.as_positive_bytes()?,
        e: pair.public.e.as_positive_bytes()?,
        d: pair.private.d.as_positive_bytes()?,
        primes: [pair.private.p.as_positive_bytes()?, pair.private.q.as_positive_bytes()?],
        coefficient: pair.private.iqmp.as_positive_bytes()?,
    }))
}

/// The DER of a PKCS #8 key in PEM (RFC 7468 section 10); none for any other form.
fn pkcs8(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let body = text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----")?;
    let body = body.strip_suffix("-----END PRIVATE KEY-----")?;
    let base64: Zeroizing<String> =
        Zeroizing::new(body.chars().filter(|character| !character.is_whitespace()).collect());
    base64::engine::general_purpose::STANDARD.decode(base64.as_bytes()).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files as `ssh-keygen` writes them, with the public half beside each.
    const FILES: [(&str, &str, &str); 4] = [
        (
            "p256",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n\
             b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS\n\
             1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQRzoIng6aWqTjTYZRNRx1x+7OBwu4iW\n\
             dI3qofi/Nf3/2SzOlyvOZO6j1Dbdihh1dR40s/q05XCDJtEpops/AAx0AAAAoMoN76DKDe\n\
             +gAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHOgieDppapONNhl\n\
             E1HHXH7s4HC7iJZ0jeqh+L81/f/ZLM6XK85k7qPUNt2KGHV1HjSz+rTlcIMm0Smimz8ADH\n\
             QAAAAhAJk9v38hD1SaZhPsMCeBhMOGqntiZjqTP9gTaQkeetohAAAAAAECAwQFBgc=\n\
             -----END OPENSSH PRIVATE KEY-----\n",
            "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBHOgieDppapONNhlE1HHXH7s4HC7iJZ0jeqh+L81/f/ZLM6XK85k7qPUNt2KGHV1HjSz+rTlcIMm0Smimz8ADHQ=",
        ),
        (
            "p384",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n\
             b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAiAAAABNlY2RzYS\n\
             1zaGEyLW5pc3RwMzg0AAAACG5pc3RwMzg0AAAAYQRFr9Z2Uqgc4bktRidq+M0stG+rtpOd\n\
             rjcqh8ifwYmrVQkA31MOBh6NvaiEqNTD2Wcc9dEJOMcRbo9hHTrBr85Qek6BZxsAke+mvs\n\
             GB2ec/zmaRjv5Qas5Grx01AagSiOUAAADIpu88sqbvPLIAAAATZWNkc2Etc2hhMi1uaXN0\n\
             cDM4NAAAAAhuaXN0cDM4NAAAAGEERa/WdlKoHOG5LUYnavjNLLRvq7aTna43KofIn8GJq1\n\
             UJAN9TDgYejb2ohKjUw9lnHPXRCTjHEW6PYR06wa/OUHpOgWcbAJHvpr7BgdnnP85mkY7+\n\
             UGrORq8dNQGoEojlAAAAMCJs6pE+xf0Dmsi+GGzWfe3OdxduJmVOTqBBQY18vGBlHigo5e\n\
             TafLXi0I/SUhAJzQAAAAA=\n\
             -----END OPENSSH PRIVATE KEY-----\n",
            "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBEWv1nZSqBzhuS1GJ2r4zSy0b6u2k52uNyqHyJ/BiatVCQDfUw4GHo29qISo1MPZZxz10Qk4xxFuj2EdOsGvzlB6ToFnGwCR76a+wYHZ5z/OZpGO/lBqzkavHTUBqBKI5Q==",
        ),
        (
            "p521",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n\
             b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAArAAAABNlY2RzYS\n\
             1zaGEyLW5pc3RwNTIxAAAACG5pc3RwNTIxAAAAhQQB8MCb8YQ2wPwvhYNqqWP3bKZ+ngb7\n\
             rsL3oWNeJ3ONQn7zr7tyCKSm0x6B/0Yo8FZeyGxGCbpGHDAkgLJd+WJp70ABivkvnVleLy\n\
             eB03uV29CkknLC9nrlKYV6vK9HIzQ7gFNcFn+soeLD/xkzolYCxY2mzIY4JXlEjFnq9GE0\n\
             uEOdBwMAAAEAuPMM9LjzDPQAAAATZWNkc2Etc2hhMi1uaXN0cDUyMQAAAAhuaXN0cDUyMQ\n\
             AAAIUEAfDAm/GENsD8L4WDaqlj92ymfp4G+67C96FjXidzjUJ+86+7cgikptMegf9GKPBW\n\
             XshsRgm6RhwwJICyXfliae9AAYr5L51ZXi8ngdN7ldvQpJJywvZ65SmFeryvRyM0O4BTXB\n\
             Z/rKHiw/8ZM6JWAsWNpsyGOCV5RIxZ6vRhNLhDnQcDAAAAQgFh0CZuMVKTEJrN5XZat0pW\n\
             MipERveKn354XFIo+H2gaq4UPiPI70m9XeKFhkglCHUIg1CHDgngzsCYib3usnEpkgAAAA\n\
             ABAg==\n\
             -----END OPENSSH PRIVATE KEY-----\n",
            "AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAHwwJvxhDbA/C+Fg2qpY/dspn6eBvuuwvehY14nc41CfvOvu3IIpKbTHoH/RijwVl7IbEYJukYcMCSAsl35YmnvQAGK+S+dWV4vJ4HTe5Xb0KSScsL2euUphXq8r0cjNDuAU1wWf6yh4sP/GTOiVgLFjabMhjgleUSMWer0YTS4Q50HAw==",
        ),
        (
            "rsa",
            "-----BEGIN OPENSSH PRIVATE KEY-----\n\
             b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAABFwAAAAdzc2gtcn\n\
             NhAAAAAwEAAQAAAQEAsqG5wpuxLX1wZgBHyEq+dURW9I5BGdT6kxJad/iqfMyzpUMYHeek\n\
             Q/1VERfIICmR/PBLtlFUCs609pphKzlYNYd0GDOefcGsYJTJIjSMnqDTz4vi18SsNl/j6i\n\
             nVv76g6ow1jtxe1pDuLsSqfLC/JuHDkXc/sAkwBW9cv49/xIuoECmT5/SjeluqtHhROuBJ\n\
             n7k6r9e8jM41oMSqpOHeUCn1YFD4uy9zLs0mB07zy/ERhpf9K0cmieTfcI0Ctmf8K9aWws\n\
             3U99m4/Xu5CDuFgC0/+8F6c1c8q7Fo9Qpg76D1gLRgf2lgy12IywQ37uBpG/NgOUljAa9O\n\
             QRmXM3pPhwAAA7huYkxmbmJMZgAAAAdzc2gtcnNhAAABAQCyobnCm7EtfXBmAEfISr51RF\n\
             b0jkEZ1PqTElp3+Kp8zLOlQxgd56RD/VURF8ggKZH88Eu2UVQKzrT2mmErOVg1h3QYM559\n\
             waxglMkiNIyeoNPPi+LXxKw2X+PqKdW/vqDqjDWO3F7WkO4uxKp8sL8m4cORdz+wCTAFb1\n\
             y/j3/Ei6gQKZPn9KN6W6q0eFE64EmfuTqv17yMzjWgxKqk4d5QKfVgUPi7L3MuzSYHTvPL\n\
             8RGGl/0rRyaJ5N9wjQK2Z/wr1pbCzdT32bj9e7kIO4WALT/7wXpzVzyrsWj1CmDvoPWAtG\n\
             B/aWDLXYjLBDfu4Gkb82A5SWMBr05BGZczek+HAAAAAwEAAQAAAQAOtYN602AtC0G4nHhM\n\
             tV7mgBia7aXNrzxs5Nt/OoIrYZ2/U32GZN8hXBhnnmozv8iOJ+lMG3lMpIXBMqgiq4eobL\n\
             1yCroXx91eXJINV39mxn56fh3RP5ggqBe33fcEYXmVprL4TwweJfP+9OHG/7TVykxUy5l6\n\
             cN8761YbTgEq2WPnJj9Mk9PlpvqL8iNzyz1IikqHjEdTLA073gEUG1Sq86/0YRqXwB5wlG\n\
             V/CSNFhrFCK1Eam3t4WBLO3O1bLX9VB5Tyx5qS7CtZexvJYBmXhxEuynWg3fO6MMEpRFJV\n\
             pVyuI/GeA44ejyL+ojPo9znpCl07G9QWI+nOqGww2LTBAAAAgAphWfQhqyfD8tleI1Xwsl\n\
             sAqDBP76jHv+1dexyLQG5y5Ji7uaDDOPVCc+M6AUjhXkYIlqfbn/HUOVcOurclXvwe2h30\n\
             L9ArYKHERHOxGL7tomt+sGNozankUmfOw8FHtaFyIyUA2kAx3ADRAAq7stQnA01C30IQsy\n\
             hQ71TsyjykAAAAgQDV+WDGfXMef81kYp5OktmF+y//Damyo6Xria/xf0HEv4iU1s4qTm8c\n\
             QwrAe3kh53KE+EN+FB4rbRARR6LF0Ha0RbMSs2vrZkWqcincH3+OPZzp9M/MbqyBsBarNY\n\
             lBO+999Cof215MCOX/aYK4219gTY08xwpWVFOXI5FmBPqHxwAAAIEA1bdU6db9sKWBSnlh\n\
             7O7Rmyoqcr2VoD6fgYaGjbxdSz42pUusLHpVEqXkBtbUHwr9+mfUlxkHoNKEcBfNaKepxH\n\
             JSk1d8ad0o1Wvq7uORoPzYjPedYtAyTd5J3b58O57uAZ4cKPieCcW0TWf+2YJQJ786vk81\n\
             3GkMHdbcqbWPekEAAAAAAQID\n\
             -----END OPENSSH PRIVATE KEY-----\n",
            "AAAAB3NzaC1yc2EAAAADAQABAAABAQCyobnCm7EtfXBmAEfISr51RFb0jkEZ1PqTElp3+Kp8zLOlQxgd56RD/VURF8ggKZH88Eu2UVQKzrT2mmErOVg1h3QYM559waxglMkiNIyeoNPPi+LXxKw2X+PqKdW/vqDqjDWO3F7WkO4uxKp8sL8m4cORdz+wCTAFb1y/j3/Ei6gQKZPn9KN6W6q0eFE64EmfuTqv17yMzjWgxKqk4d5QKfVgUPi7L3MuzSYHTvPL8RGGl/0rRyaJ5N9wjQK2Z/wr1pbCzdT32bj9e7kIO4WALT/7wXpzVzyrsWj1CmDvoPWAtGB/aWDLXYjLBDfu4Gkb82A5SWMBr05BGZczek+H",
        ),
    ];

    #[test]
    fn keys_of_openssh_are_read_and_sign() {
        for (case, file, public) in FILES {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("key");
            std::fs::write(&path, file).unwrap();
            let key = read_key(&path).unwrap();
            let public = base64::engine::general_purpose::STANDARD.decode(public).unwrap();
            assert_eq!(key.public_blob(), public, "{case}");
            for algorithm in key.algorithms() {
                let signature = key.sign(*algorithm, b"data").unwrap();
                let name = algorithm.name().as_bytes();
                proxyd_ssh::transport::verify_signature(name, &public, &signature, b"data")
                    .unwrap();
            }
        }
    }

    #[test]
    fn what_is_no_usable_key_is_refused() {
        let [(_, file, _), ..] = FILES;
        let cut: String = file.lines().take(3).collect();
        let changed = file.replacen("AAAA", "AAAB", 1);
        let locked = "-----BEGIN OPENSSH PRIVATE KEY-----\n\
             b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHIAAAAGYmNyeXB0AAAAGAAAABBAHsImr2\n\
             4UVH/05i9ouYduAAAAEAAAAAEAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIG8In6Kui5BgBQfk\n\
             iulM9a2Wl5KSXmQfDb7iVHxfu/xwAAAAkME9CuDOO/Gnk1YhKA/zlYthZicm+c2T3B9rf3\n\
             9EfFpaAq8xCu5gqZUcqSy5sqqt/jCTyRxlsW5nR+m6qLUSOAaSqUvvU5cTAcFUs38LzElQ\n\
             2Hys48gJnZt/ErK5sJtECqyVFrCbjFMQPOk2+WVgAt8yFs3IXS3iv24fzfUY4ITt7DvVl8\n\
             ZS/iddOYViqxs/oQ==\n\
             -----END OPENSSH PRIVATE KEY-----\n";
        let cases: [(&str, &str, fn(&CredentialError) -> bool); 4] = [
            ("empty", "", |error| matches!(error, CredentialError::Parse { .. })),
            ("cut", &cut, |error| matches!(error, CredentialError::Parse { .. })),
            ("changed", &changed, |error| matches!(error, CredentialError::Parse { .. })),
            ("locked", locked, |error| matches!(error, CredentialError::Unsupported { .. })),
        ];
        for (case, file, expected) in cases {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("key");
            std::fs::write(&path, file).unwrap();
            let error = read_key(&path).err().unwrap();
            assert!(expected(&error), "{case}: {error}");
        }
        let missing = read_key(Path::new("/nonexistent/key")).err().unwrap();
        assert!(matches!(missing, CredentialError::Read { .. }), "{missing}");
    }
}
