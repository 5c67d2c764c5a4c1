// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
)

// once carries out act unless it repeats one, known by its token, that was carried out in the last day: then it returns
// what that returned. do must write through writeFor, so that what it returns is stored together with what it changes;
// of several that come at once, the first to be written counts.
func once[T any](ctx context.Context, s *Service, act *waybill.Act, do func() (T, error)) (T, error) {
	if act.Token == "" {
		return do()
	}
	v, err := recall[T](ctx, s, act)
	if !errors.Is(err, store.ErrNotFound) {
		return v, err
	}
	if v, err = do(); errors.Is(err, store.ErrTokenUsed) {
		return recall[T](ctx, s, act)
	}
	return v, err
}

// answer is what is remembered of an act: what it was answered, and what its audit record names.
type answer[T any] struct {
	Subject string
	Value   T
}

// writeFor returns the store as act uses it, with v as what a repetition of act is answered.
func writeFor[T any](s *Service, act *waybill.Act, v T) (*store.Store, error) {
	if act.Token == "" {
		return s.store.For(act, nil), nil
	}
	plain, err := json.Marshal(answer[T]{act.Subject, v})
	if err != nil {
		return nil, fmt.Errorf("remember the answer: %w", err)
	}
	// Sealed, because it may hold a secret, such as the code of an activation.
	return s.store.For(act, s.sealer.Seal(plain, tokenOwner(act))), nil
}

// tokenOwner is what a remembered answer is bound to.
func tokenOwner(act *waybill.Act) []byte {
	return []byte("answer\n" + string(act.Account) + "\n" + act.Name + "\n" + act.Region + "\n" + act.Action + "\n" + act.Token)
}

// recall returns what is remembered for the token of act; store.ErrNotFound if nothing is, and TokenReused if the token
// was that of another request.
func recall[T any](ctx context.Context, s *Service, act *waybill.Act) (v T, err error) {
	a, err := s.store.TokenAnswer(ctx, act)
	if err != nil {
		return v, err
	}
	if a.Digest != act.Digest {
		return v, waybill.Errorf(waybill.TokenReused, "the ClientToken has been used with other parameters")
	}
	var first answer[T]
	plain, err := s.sealer.Open(a.Answer, tokenOwner(act))
	if err == nil {
		err = json.Unmarshal(plain, &first)
	}
	if err != nil {
		return v, fmt.Errorf("recall the answer: %w", err)
	}
	act.Repeated, act.Subject = true, first.Subject
	return first.Value, nil
}
