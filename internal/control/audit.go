// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"fmt"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
)

// AuditKey returns the key that seals the heads of audit trails: with the key file, which is not in the database.
func AuditKey(sealer *identity.Sealer) []byte { return sealer.Derive("waybill audit trail 1") }

// Record writes the audit record of an act that changed nothing: it was refused, or a repetition.
func (s *Service) Record(ctx context.Context, act *waybill.Act, result string) error {
	return s.store.Record(ctx, act, result)
}

// maxTrails bounds how many audit trails are read at once, of which each may have millions of records: what else reads
// the database does not wait for them.
const maxTrails = 2

// AuditRecords returns a page of the caller's audit records. Listing.Total is not counted.
func (s *Service) AuditRecords(ctx context.Context, who waybill.Principal, f waybill.AuditFilter, p Page) (Listing[waybill.AuditRecord], error) {
	if err := s.trails.Acquire(ctx, 1); err != nil {
		return Listing[waybill.AuditRecord]{}, fmt.Errorf("list audit records: %w", err)
	}
	defer s.trails.Release(1)
	return s.store.AuditRecords(ctx, who.Account, f, p)
}

// VerifyAudit checks the caller's whole audit trail.
func (s *Service) VerifyAudit(ctx context.Context, who waybill.Principal) (waybill.AuditVerdict, error) {
	if err := s.trails.Acquire(ctx, 1); err != nil {
		return waybill.AuditVerdict{}, fmt.Errorf("verify the audit trail: %w", err)
	}
	defer s.trails.Release(1)
	return s.store.VerifyAudit(ctx, who.Account)
}

// serverAct is an act of the server's own, or of an agent, on an instance or an activation.
func (s *Service) serverAct(kind waybill.ActorKind, name, action string, account waybill.AccountID, region, arn string) *waybill.Act {
	return &waybill.Act{
		Principal: waybill.Principal{Account: account, Kind: kind, Name: name},
		Action:    action, Region: region, Resources: []string{arn},
	}
}

// Actions that no API operation stands for, as audit records name them.
const (
	actionCreateAccount  = "waybill:CreateAccount"
	actionEnableAccount  = "waybill:EnableAccount"
	actionDisableAccount = "waybill:DisableAccount"
	actionReplaceKey     = "waybill:CreateAccountKey"
	actionEnrol          = "waybill:Enroll"
	actionLeave          = "waybill:Leave"
	actionQuarantine     = "waybill:Quarantine"
	actionDisableWebhook = "waybill:DisableWebhook"
)

func accountARN(id waybill.AccountID) string {
	return "acs:waybill:*:" + string(id) + ":account/" + string(id)
}

func activationARN(a *waybill.Activation) string {
	return "acs:ecs:" + a.Region + ":" + string(a.Account) + ":activation/" + string(a.ID)
}

func instanceARN(i *waybill.Instance) string {
	return "acs:ecs:" + i.Region + ":" + string(i.Account) + ":instance/" + string(i.ID)
}

// retainAudit removes audit records past their retention, in bounded steps.
func (s *Service) retainAudit(ctx context.Context) error {
	accounts, err := s.store.AuditedAccounts(ctx)
	if err != nil {
		return err
	}
	for _, account := range accounts {
		total := 0
		for n := sweepBatch; n == sweepBatch && ctx.Err() == nil; total += n {
			if n, err = s.store.ExpireAudit(ctx, account, s.now().Add(-s.cfg.RetainAuditFor), sweepBatch); err != nil {
				return err
			}
			s.metrics.removed.WithLabelValues(removedAudit).Add(float64(n))
		}
		if total > 0 {
			s.log.Info("removed old audit records", "account", account, "count", total)
		}
	}
	return nil
}

// DefaultRetainAuditFor is how long audit records are kept unless a setting says otherwise.
const DefaultRetainAuditFor = 180 * 24 * time.Hour
