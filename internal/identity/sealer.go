// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

const sealKeySize = 32 // AES-256

// Sealer encrypts the secrets that the database must be able to give back, such as AccessKey secrets (design §10). It
// may be used by several goroutines.
type Sealer struct {
	key  []byte
	aead cipher.AEAD
}

// OpenSealer loads the 32-byte key in the file at path. If there is no such file, it creates one with a new key and
// mode 0600. Whoever loses the file loses every secret sealed with it.
func OpenSealer(path string) (*Sealer, error) {
	key, err := createOnce(path, 0o600, func() ([]byte, error) {
		key := make([]byte, sealKeySize)
		_, err := rand.Read(key)
		return key, err
	})
	if err != nil {
		return nil, fmt.Errorf("open sealing key: %w", err)
	}
	if len(key) != sealKeySize {
		return nil, fmt.Errorf("the key file %s has %d bytes, not %d; copy seal.key of another server of the database, or of a backup. "+
			"For a new database leave it out, and one is made", path, len(key), sealKeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{key: key, aead: aead}, nil
}

// Derive returns 32 bytes that only whoever has the key file can know, other ones for every purpose.
func (s *Sealer) Derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, s.key, nil, purpose, sealKeySize)
	if err != nil {
		panic(err) // only for more bytes than HKDF can give
	}
	return key
}

// Seal encrypts plain. Only Open with the same aad returns it, so aad should name what the secret belongs to: a sealed
// value copied to another row does not open there.
func (s *Sealer) Seal(plain, aad []byte) []byte { return s.aead.Seal(nil, nil, plain, aad) }

// Open is the inverse of Seal. It fails if sealed was altered, or sealed with another key or aad.
func (s *Sealer) Open(sealed, aad []byte) ([]byte, error) {
	plain, err := s.aead.Open(nil, nil, sealed, aad)
	if err != nil {
		return nil, errors.New("open sealed secret: not sealed with this key for this owner")
	}
	return plain, nil
}
