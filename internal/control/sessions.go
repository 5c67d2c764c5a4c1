// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/store"
)

// How long a session of the console lasts.
const (
	SessionLife  = 12 * time.Hour // at most
	SessionIdle  = time.Hour      // without a request
	maxSessions  = 20             // of one access key; the ones least recently used end
	sessionNoted = time.Minute    // how late the note of its use may be
)

// Actions of the console, as audit records name them.
const (
	actionSignIn     = "waybill:SignIn"
	actionSignOut    = "waybill:SignOut"
	actionSignOutAll = "waybill:SignOutEverywhere"
)

// Session is somebody who is signed in.
type Session struct {
	Credential Credential // of the key that was signed in with, as it is now
	Expires    time.Time  // unless it is used before
	token      string
}

// SignIn begins a session with an access key. The token stands for it, and is not kept. who says where the request came from.
// A key that is not there or not active, a wrong secret and a temporary key are AccessKeyNotFound, and nothing tells
// which it was. Whoever calls SignIn bounds how often somebody may try.
func (s *Service) SignIn(ctx context.Context, who waybill.Principal, keyID, secret string) (token string, _ Session, err error) {
	c, err := s.credential(ctx, keyID)
	if err != nil && waybill.CodeOf(err) != waybill.AccessKeyNotFound {
		return "", Session{}, err
	}
	right := subtle.ConstantTimeCompare([]byte(c.Secret), []byte(secret)) == 1
	if err != nil || !right || !c.Key.Active {
		if err == nil { // the account's own trail tells of who tries its keys
			act := sessionAct(who, c, actionSignIn)
			err = s.Record(ctx, act, "InvalidAccessKeyId.NotFound")
		} else {
			err = nil
		}
		return "", Session{}, errors.Join(waybill.Errorf(waybill.AccessKeyNotFound, "no such access key, or its secret is another one"), err)
	}
	now := s.now()
	token = rand.Text() + rand.Text()
	v := store.Session{Account: c.Key.Account, AccessKey: c.Key.ID, Created: now, Used: now, Expires: now.Add(SessionLife)}
	act := sessionAct(who, c, actionSignIn)
	act.Subject = c.Key.ID
	if err := s.store.For(act, nil).AddSession(ctx, token, v, maxSessions); err != nil {
		return "", Session{}, fmt.Errorf("sign in: %w", err)
	}
	return token, Session{Credential: c, Expires: v.Expires, token: token}, nil
}

// Session returns the session that a token stands for; waybill.TokenInvalid if there is none, or it is over, or its key is
// gone or not active any more.
func (s *Service) Session(ctx context.Context, token string) (Session, error) {
	over := waybill.Errorf(waybill.TokenInvalid, "no session")
	v, err := s.store.Session(ctx, token)
	if errors.Is(err, store.ErrNotFound) {
		return Session{}, over
	}
	if err != nil {
		return Session{}, fmt.Errorf("read session: %w", err)
	}
	now := s.now()
	if now.After(v.Expires) || now.Sub(v.Used) > SessionIdle {
		return Session{}, over
	}
	c, err := s.credential(ctx, v.AccessKey)
	if waybill.CodeOf(err) == waybill.AccessKeyNotFound || err == nil && !c.Key.Active {
		return Session{}, over
	}
	if err != nil {
		return Session{}, err
	}
	if now.Sub(v.Used) > sessionNoted {
		if err := s.store.UseSession(ctx, token, now); err != nil {
			return Session{}, fmt.Errorf("note the use of a session: %w", err)
		}
	}
	return Session{Credential: c, Expires: v.Expires, token: token}, nil
}

// SignOut ends a session or, with everywhere, every one of its access key.
func (s *Service) SignOut(ctx context.Context, who waybill.Principal, v Session, everywhere bool) error {
	action := actionSignOut
	if everywhere {
		action = actionSignOutAll
	}
	act := sessionAct(who, v.Credential, action)
	act.Subject = v.Credential.Key.ID
	st := s.store.For(act, nil)
	if everywhere {
		_, err := st.EndSessions(ctx, v.Credential.Key.ID)
		return err
	}
	return st.EndSession(ctx, v.token)
}

// sessionAct is an act of whoever holds a key, with that key.
func sessionAct(who waybill.Principal, c Credential, action string) *waybill.Act {
	who.Account, who.Kind, who.Name, who.AccessKey = c.Key.Account, waybill.AccountActor, "", c.Key.ID
	if c.Key.User != "" {
		who.Kind, who.Name = waybill.UserActor, c.Key.User
	}
	return &waybill.Act{Principal: who, Action: action, Resources: []string{accountARN(c.Key.Account)}}
}

// forgetSessions removes up to limit sessions that are over, and returns how many.
func (s *Service) forgetSessions(ctx context.Context, limit int) (removed int64, err error) {
	return s.store.ForgetSessions(ctx, s.now().Add(-SessionIdle), limit)
}
