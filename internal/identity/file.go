// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// createOnce returns the content of the file at path. If there is none, it first creates it with what produce returns.
//
// The file appears whole or not at all, and is never replaced: of several processes that race to create it one wins,
// and all return the winner's content.
func createOnce(path string, mode fs.FileMode, produce func() ([]byte, error)) ([]byte, error) {
	old, err := os.ReadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return old, err
	}
	content, err := produce()
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, ".new-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err := errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return nil, err
	}
	// A link, unlike a rename, fails when the name is taken.
	if err := os.Link(tmp.Name(), path); errors.Is(err, fs.ErrExist) {
		return os.ReadFile(path)
	} else if err != nil {
		return nil, err
	}
	return content, syncDir(dir)
}

// syncDir makes a new name in dir durable, where the system can do that.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}
