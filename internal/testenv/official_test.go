// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/assist/assisttest"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

// TestOfficialAgentByItsRealCause brings about, with the official agent, each row of the table that it can produce. Those
// that it cannot are in docs/official-agent.md: machine shut down (it says no goodbye), directory not allowed (it has no
// such list), mode not applicable (it does not compare), agent broke (it does not say so).
func TestOfficialAgentByItsRealCause(t *testing.T) {
	t.Parallel()
	try(t, []scenario{
		{"success", outcome{"Success", "", ""}, officialSuccess},
		{"deregistered before", outcome{"Aborted", "InstanceReleased", "the instance has released when create task"}, officialReleasedBefore},
		{"deregistered during", outcome{"Aborted", "InstanceReleased", "the instance has released when create task"}, officialReleasedDuring},
		{"agent stopped", outcome{"Aborted", "ClientNotRunning", "the aliyun service is not running on the instance"}, officialStopped},
		{"agent silent", outcome{"Aborted", "ClientNotResponse", "the aliyun service in the instance does not response"}, officialSilent},
		{"agent upgrading", outcome{"Aborted", "ClientIsUpgrading", "the aliyun service in the instance is upgrading now"}, officialUpgrading},
		{"agent too old", outcome{"Aborted", "ClientNeedUpgrade", "the aliyun service in the instance need upgrade"}, officialTooOld},
		{"taken up, not reported", outcome{"Timeout", "DeliveryTimeout", "the command delivery has been timeout"}, officialTooSlow},
		{"target is a directory", outcome{"Failed", "FileCreateFail", "Unexpected error during creating"}, officialTargetIsDirectory},
		{"file exists", outcome{"Failed", "FileAlreadyExists", "File already exists"}, officialFileExists},
		{"name too long", outcome{"Invalid", "FileNameInvalid", "File name is invalid"}, officialNameTooLong},
		{"directory is a file", outcome{"Invalid", "FilePathInvalid", "File path is invalid"}, officialDirectoryIsFile},
		{"not absolute there", outcome{"Invalid", "FilePathInvalid", "File path is invalid"}, officialNotAbsolute},
		{"no such owner", outcome{"Invalid", "FileAuthorityInvalid", "Owner not exists"}, officialNoOwner},
		{"owner by number", outcome{"Invalid", "FileAuthorityInvalid", "Owner not exists"}, officialOwnerByNumber},
		{"no such group", outcome{"Invalid", "FileAuthorityInvalid", "Group not exists"}, officialNoGroup},
		{"setuid", outcome{"Invalid", "FileAuthorityInvalid", "Mode is invalid"}, officialSetuid},
	})
}

func officialSuccess(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	id := s.Send(testenv.OfficialFile(o))
	if d := s.Await(id); d.Targets.Items[0].Started == "" {
		t.Error("succeeded and was never started")
	}
	if b, err := os.ReadFile(o.Path("/srv", "hello.txt")); err != nil || string(b) != "hello\n" {
		t.Errorf("the file: %q, %v", b, err)
	}
	if i := s.Instance(o.ID); i.AgentKind != waybill.OfficialAgent || i.AgentVersion != assisttest.Version || !i.Connected {
		t.Errorf("instance %+v", i)
	}
	return id, o.ID
}

func officialReleasedBefore(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	if _, err := s.Client.DeregisterManagedInstance(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the agent has dropped its identity", func() bool { return !o.Snapshot().Registered })
	return s.Send(testenv.OfficialFile(o, s.Official())), o.ID
}

func officialReleasedDuring(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Register(s.Network(), s.Activate("official"))
	id := s.Send(testenv.OfficialFile(o))
	if _, err := s.Client.DeregisterManagedInstance(t.Context(), o.ID); err != nil {
		t.Fatal(err)
	}
	return id, o.ID
}

// officialStopped makes the heartbeats of a stopped agent old, as two minutes would.
func officialStopped(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	o.Stop()
	s.AwaitChannel(o, "lost")
	s.Later(3 * time.Minute)
	return s.Send(testenv.OfficialFile(o)), o.ID
}

func officialSilent(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	o.Kill()
	s.AwaitChannel(o, "lost")
	r := testenv.OfficialFile(o)
	r.Timeout = time.Second
	return s.Send(r), o.ID
}

func officialUpgrading(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	// What it asks for at its start it carries out, whatever comes after.
	testenv.Eventually(t, "the startup fetch", func() bool { return len(o.Snapshot().Fetches) > 0 })
	o.Updating(true)
	r := testenv.OfficialFile(o)
	r.Timeout = time.Second
	return s.Send(r), o.ID
}

func officialTooOld(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official(func(c *assisttest.Config) { c.Facts.Version = "2.2.3.577" })
	return s.Send(testenv.OfficialFile(o)), o.ID
}

func officialTooSlow(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official(func(c *assisttest.Config) {
		c.At = func(p assisttest.Point, _ string) assisttest.Action {
			if p == assisttest.BeforeReport || p == assisttest.BeforeMetric {
				return assisttest.Drop
			}
			return assisttest.Proceed
		}
	})
	r := testenv.OfficialFile(o)
	r.Timeout = time.Second
	return s.Send(r), o.ID
}

func officialTargetIsDirectory(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	mkdir(t, o.Path("/srv", "hello.txt"))
	r := testenv.OfficialFile(o)
	r.File.Overwrite = true
	return s.Send(r), o.ID
}

func officialFileExists(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	first := s.Send(testenv.OfficialFile(o))
	if d := s.Await(first); d.Status != waybill.OverallSuccess {
		t.Fatalf("the first: %+v", d.Targets)
	}
	return s.Send(testenv.OfficialFile(o)), o.ID
}

func officialNameTooLong(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	r := testenv.OfficialFile(o)
	r.File.Name = strings.Repeat("é", 200) // 200 characters, 400 bytes
	return s.Send(r), o.ID
}

func officialDirectoryIsFile(t *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	if err := os.WriteFile(o.Path("/", "srv"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return s.Send(testenv.OfficialFile(o)), o.ID
}

func officialNotAbsolute(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	r := testenv.OfficialFile(o)
	r.File.TargetDir = `C:\srv`
	return s.Send(r), o.ID
}

func officialWith(s *testenv.Server, change func(*client.SendFileRequest)) (waybill.DeliveryID, waybill.InstanceID) {
	o := s.Official()
	r := testenv.OfficialFile(o)
	change(&r)
	return s.Send(r), o.ID
}

func officialNoOwner(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	return officialWith(s, func(r *client.SendFileRequest) { r.File.Owner = "nobody-is-called-so" })
}

func officialOwnerByNumber(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	return officialWith(s, func(r *client.SendFileRequest) { r.File.Owner = "4711" })
}

func officialNoGroup(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	return officialWith(s, func(r *client.SendFileRequest) { r.File.Group = "no-group-is-called-so" })
}

func officialSetuid(_ *testing.T, s *testenv.Server) (waybill.DeliveryID, waybill.InstanceID) {
	return officialWith(s, func(r *client.SendFileRequest) { r.File.Mode = "4755" })
}
