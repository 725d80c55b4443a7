//! TLS between two members: version 1.3, and both ends prove with their Ed25519 keys, as raw public keys (RFC 7250), who
//! they are. There are no names, no certificates, and nobody else to trust.
//!
//! What is dialled has to be the member that was meant; who dials us has to be one of those that may. Nothing is
//! resumed, so that each link proves it anew. Not here: connections, and what is said over them ([`crate::tcp`]).

use std::sync::Arc;

use ccp::record::MemberId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, ServerName, SubjectPublicKeyInfoDer, UnixTime, alg_id};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, CommonState, DigitallySignedStruct,
    DistinguishedName, Error, PeerIncompatible, ServerConfig, SignatureScheme,
};

use crate::identity::{MemberKey, PublicKey};

/// What is spoken inside; the number grows when it is no longer understood by who speaks this one.
const PROTOCOL: &[u8] = b"ctsync/1";

/// Our end of links to be.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
}

/// Why a handshake failed, as far as it matters to an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The other end proved to be nobody that it may be, or did not prove anything.
    Stranger,
    /// The other end says so of us.
    Denied,
    /// Something else, such as noise instead of TLS.
    Other,
}

impl Identity {
    /// The member that has this key.
    pub fn new(key: &MemberKey) -> Self {
        let spki = CertificateDer::from(spki(&key.public()));
        Self {
            key: Arc::new(CertifiedKey::new(vec![spki], key.signing())),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
        }
    }

    /// For dialling the member that has `peer`.
    pub fn dialling(&self, peer: &PublicKey) -> Result<Arc<ClientConfig>, Error> {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(self.accepting(vec![*peer])))
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(
                Arc::clone(&self.key),
            )));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.resumption = Resumption::disabled();
        config.enable_sni = false;
        Ok(Arc::new(config))
    }

    /// For being dialled by the members that have `peers`.
    pub fn listening(&self, peers: Vec<PublicKey>) -> Result<Arc<ServerConfig>, Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(self.accepting(peers)))
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(
                Arc::clone(&self.key),
            )));
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn accepting(&self, keys: Vec<PublicKey>) -> Accepted {
        Accepted {
            spkis: keys.iter().map(spki).collect(),
            provider: Arc::clone(&self.provider),
        }
    }
}

/// Which of `members` is at the other end, once the handshake is done and it speaks our protocol.
pub fn member(state: &CommonState, members: &[(MemberId, PublicKey)]) -> Option<MemberId> {
    let [proven] = state.peer_certificates()? else {
        return None;
    };
    let member = members.iter().find(|(_, key)| spki(key) == **proven);
    member
        .filter(|_| state.alpn_protocol() == Some(PROTOCOL))
        .map(|(member, _)| *member)
}

/// A name that TLS wants and nobody looks at.
pub fn no_name() -> ServerName<'static> {
    ServerName::try_from("ctsync").expect("it is a name")
}

impl Refusal {
    /// How many kinds there are: each is told of by itself, so that one that is frequent does not silence another.
    pub const KINDS: usize = 3;

    /// What `error` means.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(_)
            | Error::NoCertificatesPresented
            | Error::PeerIncompatible(
                PeerIncompatible::IncorrectCertificateTypeExtension
                | PeerIncompatible::UnsolicitedCertificateTypeExtension,
            ) => Self::Stranger,
            Error::AlertReceived(AlertDescription::AccessDenied) => Self::Denied,
            _ => Self::Other,
        }
    }
}

/// Accepts these keys, at either end.
#[derive(Debug)]
struct Accepted {
    spkis: Vec<Vec<u8>>,
    provider: Arc<CryptoProvider>,
}

impl Accepted {
    fn accept(&self, presented: &CertificateDer<'_>) -> Result<(), Error> {
        match self.spkis.iter().any(|spki| spki == presented.as_ref()) {
            true => Ok(()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature_with_raw_key(
            message,
            &SubjectPublicKeyInfoDer::from(presented.as_ref()),
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }
}

impl ServerCertVerifier for Accepted {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.accept(presented)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _presented: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, presented, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Accepted {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.accept(presented)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _presented: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        presented: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, presented, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// A public key in the form that TLS sends it in.
fn spki(key: &PublicKey) -> Vec<u8> {
    rustls::sign::public_key_to_spki(&alg_id::ED25519, key.bytes()).to_vec()
}

#[cfg(test)]
mod tests;
