// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// fleet is the server that most cases are about, its machines, and what earlier cases have left there for later ones.
type fleet struct {
	server *testenv.Server
	root   *caller // the account
	till   string  // a machine with a running agent
	silent string  // a machine whose agent never ran
	leaver string  // likewise; it is deregistered

	agent    *testenv.Agent // of till
	group    string         // a resource group: till and leaver belong to it
	used     string         // the activation of leaver
	delivery string         // one that succeeded

	ann, kim  *caller // users: ann may do everything, kim what its policy allows
	annKey    string
	temporary *caller // with a temporary key of the account
}

func (c *contract) fleet() *fleet {
	s := testenv.Start(c.t, func(cfg *server.Config) {
		cfg.Control.UserGroups = 60
		cfg.Control.Webhooks.Networks = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		cfg.Control.Webhooks.Backoff = func(int) time.Duration { return time.Hour }
		cfg.Settings = []api.Setting{{Name: "retain-for", Value: "336h0m0s"}}
	})
	f := &fleet{server: s, root: c.root(s)}
	f.agent = s.Agent()
	f.till, f.silent = string(f.agent.ID), string(s.Enrol().ID)
	return f
}

func (c *contract) groups(f *fleet) {
	k := f.root
	g := k.ok("CreateResourceGroup", "all parameters", params{"Name": "shops", "DisplayName": "Shops of 陕西"}, want{
		"ResourceGroup.Name": "shops", "ResourceGroup.DisplayName": "Shops of 陕西", "ResourceGroup.Status": "OK",
	})
	f.group = g.text("ResourceGroup.Id")
	k.ok("CreateResourceGroup", "name alone", params{"Name": "depots"}, want{"ResourceGroup.DisplayName": "depots"})
	k.ok("GetResourceGroup", "all parameters", params{"ResourceGroupId": f.group}, want{"ResourceGroup.Name": "shops"})
	k.ok("ListResourceGroups", "all parameters", params{
		"ResourceGroupIds": list(f.group), "ResourceGroupId": "rg-without-effect", "Name": "shops", "PageNumber": 1, "PageSize": 100,
	}, want{
		"ResourceGroups.ResourceGroup.#": 1, "ResourceGroups.ResourceGroup.0.Id": f.group, "TotalCount": 1, "PageSize": 100,
	})
	k.ok("ListResourceGroups", "second page", params{"PageNumber": 2, "PageSize": 1}, want{
		"TotalCount": 2, "PageNumber": 2, "ResourceGroups.ResourceGroup.0.Name": "shops",
	})
	k.ok("UpdateResourceGroup", "all parameters", params{"ResourceGroupId": f.group, "NewDisplayName": "Shops"}, want{
		"ResourceGroup.DisplayName": "Shops",
	})
	k.ok("JoinResourceGroup", "all parameters", params{
		"ResourceGroupId": f.group, "ResourceType": "instance", "ResourceId": f.till,
	}, nil)
	k.refuse("CreateResourceGroup", "EntityAlreadyExists.ResourceGroup", "", params{"Name": "shops"}, "")
	k.refuse("DeleteResourceGroup", "DeleteConflict.ResourceGroup.Resource", "", params{"ResourceGroupId": f.group}, "")
	k.refuse("JoinResourceGroup", "InvalidResourceGroup.NotFound", "", params{
		"ResourceGroupId": "rg-none", "ResourceType": "instance", "ResourceId": f.till,
	}, "")
	k.refuse("JoinResourceGroup", "InvalidResourceId.NotFound", "", params{
		"ResourceGroupId": f.group, "ResourceType": "managedinstance", "ResourceId": "mi-none",
	}, "")
	gone := k.must("CreateResourceGroup", params{"Name": "closed"}).text("ResourceGroup.Id")
	k.ok("DeleteResourceGroup", "all parameters", params{"ResourceGroupId": gone}, want{"ResourceGroup.Name": "closed"})
}

func (c *contract) activations(f *fleet) {
	k := f.root
	all := params{
		"InstanceName": "kiosk", "InstanceCount": 3, "TimeToLiveInHours": 5, "Description": "kiosks at the river",
		"IpAddressRange": "127.0.0.0/8", "ResourceGroupId": f.group, "Tag": oneTag("env", "prod"), "ClientToken": "activation-1",
	}
	made := k.ok("CreateActivation", "all parameters", all, nil)
	f.used = made.text("ActivationId")
	k.ok("CreateActivation", "repeated with its ClientToken", all, want{
		"ActivationId": f.used, "ActivationCode": made.at("ActivationCode"),
	})
	other := complete("CreateActivation", all)
	other["InstanceCount"] = 4
	k.refuse("CreateActivation", "IdempotentParameterMismatch", "", other, "")

	state := c.t.TempDir()
	status, err := agent.Enroll(c.t.Context(), agent.EnrollOptions{
		StateDir: state, Server: f.server.Key.Endpoint, CA: string(f.server.CA), Version: "1.2.3",
		ActivationID: f.used, ActivationCode: made.text("ActivationCode"),
	})
	if err != nil {
		c.t.Fatal(err)
	}
	f.leaver = status.Instance

	k.ok("DescribeActivations", "all parameters", params{
		"ActivationId": f.used, "InstanceName": "kiosk", "ResourceGroupId": f.group, "Tag": oneTag("env", "prod"),
		"PageNumber": 1, "PageSize": 50,
	}, want{
		"ActivationList.#": 1, "ActivationList.0.ActivationId": f.used, "ActivationList.0.RegisteredCount": 1,
		"ActivationList.0.InstanceCount": 3, "ActivationList.0.TimeToLiveInHours": 5, "ActivationList.0.Disabled": false,
		"ActivationList.0.Tags.0.TagValue": "prod", "ActivationList.0.ResourceGroupId": f.group, "PageSize": 50,
	})
	page := k.ok("DescribeActivations", "first page by token", params{"MaxResults": 1}, want{"ActivationList.#": 1, "TotalCount": 3})
	k.ok("DescribeActivations", "next page by token", params{"MaxResults": 1, "NextToken": page.text("NextToken")}, want{
		"ActivationList.#": 1,
	})
	k.ok("DisableActivation", "all parameters", params{"ActivationId": f.used}, want{
		"Activation.Disabled": true, "Activation.IpAddressRange": "127.0.0.0/8",
	})
	k.refuse("DeleteActivation", "ActivationId.InUse", "", params{"ActivationId": f.used}, "")
	unused := k.must("CreateActivation", params{
		"InstanceName": "spare", "Description": "never used", "IpAddressRange": "192.0.2.7",
	})
	k.ok("DeleteActivation", "all parameters", params{"ActivationId": unused.text("ActivationId")}, want{
		"Activation.InstanceName": "spare", "Activation.InstanceCount": 10, "Activation.TimeToLiveInHours": 4,
	})

	for _, bad := range []struct{ code, how, name, value, arg string }{
		{"InvalidParameter", "InstanceCount", "InstanceCount", "0", "InstanceCount"},
		{"InvalidParameter", "TimeToLiveInHours", "TimeToLiveInHours", "x", "TimeToLiveInHours"},
		{"InvalidParameter", "ClientToken", "ClientToken", longText(65), "ClientToken"},
		{"InstanceName.ExceedLimit", "", "InstanceName", longText(51), ""},
		{"InstanceName.InvalidPattern", "", "InstanceName", "1st", ""},
		{"ActivationDesc.ExceedLimit", "", "Description", longText(101), ""},
		{"ActivationLimitation.Invalid", "", "InstanceCount", "1001", "1000"},
		{"ActivationTTL.ExceedLimit", "", "TimeToLiveInHours", "25", "24"},
		{"AddressRange.InvalidPattern", "", "IpAddressRange", "127.0.0.0/33", ""},
		{"InvalidResourceGroup.NotFound", "", "ResourceGroupId", "rg-none", ""},
	} {
		k.refuse("CreateActivation", bad.code, bad.how, params{bad.name: bad.value}, bad.arg)
	}
}

func (c *contract) machines(f *fleet) {
	k := f.root
	k.must("TagResources", params{"ResourceType": "instance", "ResourceId": list(f.till), "Tag": oneTag("env", "prod")})
	// A delivery, so that the machine has something to tell.
	f.server.Await(f.server.Send(testenv.File(f.agent)))
	till := k.must("DescribeManagedInstances", params{"InstanceId": list(f.till)})
	at := func(field string) string { return till.text("Instances.0." + field) }
	if at("MachineId") == "" || at("IntranetIp") == "" {
		c.t.Skip("this machine has no ID (/etc/machine-id) or no address but loopback, so no answer can hold them")
	}

	k.ok("DescribeManagedInstances", "all parameters", params{
		"InstanceId": list(f.till), "InstanceName": at("InstanceName"), "InstanceIp": "127.0.0.1", "ActivationId": at("ActivationId"),
		"MachineId": at("MachineId"), "OsType": at("OsType"), "Connected": true, "ResourceGroupId": f.group,
		"Tag": oneTag("env", "prod"), "PageNumber": 1, "PageSize": 50,
	}, want{
		"Instances.#": 1, "Instances.0.InstanceId": f.till, "Instances.0.Connected": true, "Instances.0.ResourceGroupId": f.group,
		"Instances.0.Tags.0.TagKey": "env", "Instances.0.InternetIp": "127.0.0.1", "Instances.0.AgentVersion": "test",
	})
	page := k.ok("DescribeManagedInstances", "first page by token", params{"MaxResults": 2}, want{"Instances.#": 2, "TotalCount": 3})
	k.ok("DescribeManagedInstances", "next page by token", params{"MaxResults": 2, "NextToken": page.text("NextToken")}, want{
		"Instances.#": 1, "NextToken": "",
	})
	k.refuse("DescribeManagedInstances", "InstanceIds.ExceedLimit", "", params{"InstanceId": copies(51, "mi-%d")}, "")
	k.refuse("DescribeManagedInstances", "InvalidParameter", "", params{"Connected": "perhaps"}, "Connected")

	k.ok("ModifyManagedInstance", "all parameters", params{"InstanceId": f.silent, "InstanceName": "till-silent"}, want{
		"Instance.InstanceId": f.silent, "Instance.InstanceName": "till-silent",
	})
	k.refuse("ModifyManagedInstance", "InstanceName.ExceedLimit", "", params{"InstanceId": f.silent, "InstanceName": longText(129)}, "")
	k.refuse("ModifyManagedInstance", "InstanceName.InvalidPattern", "", params{"InstanceId": f.silent, "InstanceName": "1st"}, "")
	k.refuse("ModifyManagedInstance", "InvalidInstance.NotFound", "", params{"InstanceId": "mi-none", "InstanceName": "till"}, "")

	k.ok("DescribeCloudAssistantStatus", "all parameters", params{
		"InstanceId": list(f.till, f.silent), "OSType": at("OsType"), "PageNumber": 1, "PageSize": 100,
	}, want{"TotalCount": 2, "PageSize": 100})
	k.ok("DescribeCloudAssistantStatus", "a connected agent", params{"InstanceId": list(f.till)}, want{
		"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.0.CloudAssistantStatus":  "true",
		"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.0.CloudAssistantVersion": "test",
		"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.0.SupportSessionManager": false,
	})
	page = k.ok("DescribeCloudAssistantStatus", "first page by token", params{"MaxResults": 1}, want{
		"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.#": 1,
	})
	k.ok("DescribeCloudAssistantStatus", "next page by token", params{"MaxResults": 2, "NextToken": page.text("NextToken")}, want{
		"InstanceCloudAssistantStatusSet.InstanceCloudAssistantStatus.#": 2,
	})
	k.refuse("DescribeCloudAssistantStatus", "InstanceIds.ExceedLimit", "", params{"InstanceId": copies(101, "mi-%d")}, "")
	k.refuse("DescribeCloudAssistantStatus", "InvalidInstance.NotFound", "", params{"InstanceId": list("mi-none")}, "")

	k.ok("DescribeCloudAssistantSettings", "all parameters", params{
		"SettingType": list("SessionManagerDelivery", "InvocationDelivery", "AgentUpgradeConfig", "SessionManagerConfig"),
	}, want{
		"OssDeliveryConfigs.OssDeliveryConfig.#": 2, "SlsDeliveryConfigs.SlsDeliveryConfig.1.DeliveryType": "Invocation",
		"AgentUpgradeConfig.DisableUpgrade": true, "SessionManagerConfig.SessionManagerEnabled": false,
	})
	k.ok("DescribeCloudAssistantSettings", "one setting", params{"SettingType": list("AgentUpgradeConfig")}, want{
		"AgentUpgradeConfig.TimeZone": "UTC",
	})
	k.refuse("DescribeCloudAssistantSettings", "InvalidParameter.SettingType", "", params{"SettingType": list("Colour")}, "")

	k.ok("InstallCloudAssistant", "all parameters", params{"InstanceId": list(f.till)}, nil)
	k.refuse("InstallCloudAssistant", "Operation.Forbidden", "", params{"InstanceId": list(f.till, f.silent)}, "")
	k.refuse("InstallCloudAssistant", "InvalidInstance.NotFound", "", params{"InstanceId": list(f.till, "mi-none")}, "")
	k.refuse("InstallCloudAssistant", "InstanceIds.ExceedLimit", "", params{"InstanceId": copies(51, "mi-%d")}, "")

	k.ok("DescribeInstances", "all parameters", params{
		"InstanceIds": jsonText(f.till, f.silent), "InstanceName": at("InstanceName"), "Status": "Running",
		"PrivateIpAddresses": jsonText(at("IntranetIp"), "192.0.2.1"), "PublicIpAddresses": jsonText("127.0.0.1"),
		"ResourceGroupId": f.group, "Tag": oneTag("env", "prod"), "PageNumber": 1, "PageSize": 100,
	}, want{
		"Instances.Instance.#": 1, "Instances.Instance.0.InstanceId": f.till, "Instances.Instance.0.Status": "Running",
		"Instances.Instance.0.RegionId": testenv.Region, "Instances.Instance.0.Tags.Tag.0.TagValue": "prod",
		"Instances.Instance.0.PublicIpAddress.IpAddress.0": "127.0.0.1", "PageSize": 100,
	})
	k.ok("DescribeInstances", "an agent that never ran", params{"Status": "Pending", "InstanceIds": jsonText(f.silent)}, want{
		"Instances.Instance.0.Status": "Pending",
	})
	k.ok("DescribeInstances", "a page by token", params{"MaxResults": 100}, want{"Instances.Instance.#": 3, "PageSize": 100})
	page = k.ok("DescribeInstances", "first page by number", params{"PageSize": 2}, want{"Instances.Instance.#": 2})
	k.ok("DescribeInstances", "next page by token", params{"NextToken": page.text("NextToken")}, want{"Instances.Instance.#": 1})
	k.refuse("DescribeInstances", "InvalidParameter", "", params{"InstanceIds": "mi-1,mi-2"}, "InstanceIds")
	k.refuse("DescribeInstances", "InvalidStatus.NotFound", "", params{"Status": "Asleep"}, "")
	k.refuse("DescribeInstances", "InvalidTag.Mismatch", "", params{"Tag": list(params{"Value": "prod"})}, "")
	k.refuse("DescribeInstances", "InvalidTagCount", "", params{"Tag": manyTags(21)}, "")

	k.ok("DescribeInstanceStatus", "all parameters", params{
		"InstanceId": list(f.till), "ClusterId": "c-any", "PageNumber": 1, "PageSize": 50,
	}, want{
		"TotalCount": 1, "InstanceStatuses.InstanceStatus.0.InstanceId": f.till, "InstanceStatuses.InstanceStatus.0.Status": "Running",
	})
	k.refuse("DescribeInstanceStatus", "InvalidParameter.TooManyInstanceIds", "", params{"InstanceId": copies(101, "i-%d")}, "")
	k.refuse("DescribeInstanceStatus", "Abs.InvalidInstanceIds.MalFormed", "", params{"InstanceId": list("till 7")}, "")
	k.refuse("DescribeInstanceStatus", "InvalidZoneId.NotFound", "", params{"ZoneId": "cn-hangzhou-b"}, "")

	k.ok("DescribeRegions", "all parameters", params{
		"InstanceChargeType": "PostPaid", "ResourceType": "instance", "AcceptLanguage": "en-US",
	}, want{
		"Regions.Region.0.RegionId": testenv.Region, "Regions.Region.0.LocalName": testenv.Region,
		"Regions.Region.0.Status": "available",
	})
	k.refuse("DescribeRegions", "Invalid.InstanceChargeType", "", params{"InstanceChargeType": "Free"}, "")
	k.refuse("DescribeRegions", "InvalidAcceptLanguage.NotFound", "", params{"AcceptLanguage": "tlh"}, "")
}

func (c *contract) deliveries(f *fleet) {
	k := f.root
	file := f.file
	all := file(params{
		"ContentType": "PlainText", "Description": "the app's settings", "Timeout": 60, "FileMode": "0640", "Overwrite": true,
		"ResourceGroupId": f.group, "Tag": oneTag("env", "prod"), "ClientToken": "delivery-1",
	})
	f.delivery = k.ok("SendFile", "all parameters", all, nil).text("InvokeId")
	k.ok("SendFile", "repeated with its ClientToken", all, want{"InvokeId": f.delivery})
	other := file(all)
	other["Content"] = "port = 81\n"
	k.refuse("SendFile", "IdempotentParameterMismatch", "", other, "")

	k.await("DescribeSendFileResults", "all parameters", params{
		"InvokeId": f.delivery, "InstanceId": f.till, "Name": "app.conf", "InvocationStatus": "Success", "ResourceGroupId": f.group,
		"Tag": oneTag("env", "prod"), "PageNumber": 1, "PageSize": 50,
	}, want{
		"TotalCount": 1, "Invocations.Invocation.#": 1, "Invocations.Invocation.0.InvokeId": f.delivery,
		"Invocations.Invocation.0.InvocationStatus": "Success", "Invocations.Invocation.0.Content": "port = 80\n",
		"Invocations.Invocation.0.FileMode": "0640", "Invocations.Invocation.0.Overwrite": "true",
		"Invocations.Invocation.0.VmCount": 1, "Invocations.Invocation.0.Tags.Tag.0.TagKey": "env",
		"Invocations.Invocation.0.Description": "the app's settings",
	})
	refused := k.ok("SendFile", "not again", file(nil), nil).text("InvokeId")
	k.await("DescribeSendFileResults", "a machine refused", params{"InvokeId": refused}, want{
		"Invocations.Invocation.0.InvocationStatus":                           "Failed",
		"Invocations.Invocation.0.InvokeInstances.InvokeInstance.0.ErrorCode": "FileAlreadyExists",
		"Invocations.Invocation.0.InvokeInstances.InvokeInstance.0.ErrorInfo": "File already exists",
	})
	page := k.ok("DescribeSendFileResults", "first page by token", params{"MaxResults": 1}, want{"Invocations.Invocation.#": 1})
	k.ok("DescribeSendFileResults", "next page by token", params{"MaxResults": 2, "NextToken": page.text("NextToken")}, want{
		"Invocations.Invocation.#": 2,
	})
	k.ok("DescribeSendFileResults", "without content", params{"InvokeId": f.delivery, "OmitContent": true}, want{
		"Invocations.Invocation.0.Content": "", "Invocations.Invocation.0.ContentOmitted": true,
	})
	k.refuse("DescribeSendFileResults", "InvalidParameter", "", params{"InvocationStatus": "Lost"}, "InvocationStatus")

	for _, bad := range []struct {
		code, how string
		change    params
		arg       string
	}{
		{"InvalidParameter", "Overwrite", params{"Overwrite": "perhaps"}, "Overwrite"},
		{"InvalidParameter", "Timeout", params{"Timeout": "soon"}, "Timeout"},
		{"InvalidParameter", "Name", params{"Name": "a/b"}, "Name"},
		{"InvalidParameter", "ClientToken", params{"ClientToken": "é"}, "ClientToken"},
		{"FileTargetDir.Invalid", "", params{"TargetDir": "srv"}, ""},
		{"FileMode.Invalid", "", params{"FileMode": "0999"}, ""},
		{"FileContent.DecodeError", "", params{"ContentType": "Base64", "Content": "%%%"}, ""},
		{"FileContentType.Invalid", "", params{"ContentType": "Hex"}, ""},
		{"InvalidParameter.FileOwner", "", params{"FileOwner": "a:b"}, ""},
		{"InvalidParameter.FileGroup", "", params{"FileGroup": "a:b"}, ""},
		{"FileSize.ExceedLimit", "", params{"Content": text(maxContent + 1)}, ""},
		{"FileName.ExceedLimit", "", params{"Name": longText(256)}, ""},
		{"FileDesc.ExceedLimit", "", params{"Description": longText(513)}, ""},
		{"InstanceIds.ExceedLimit", "", params{"InstanceId": copies(51, "mi-%d")}, ""},
		{"InvalidTimeout.ExceedLimit", "", params{"Timeout": 86_401}, ""},
		{"InvalidInstance.NotFound", "", params{"InstanceId": list("mi-none")}, ""},
		{"InvalidResourceGroup.NotFound", "no such group", params{"ResourceGroupId": "rg-none"}, ""},
		{"InvalidResourceGroup.NotFound", "not in the group", params{"ResourceGroupId": f.group, "InstanceId": list(f.silent)}, ""},
	} {
		k.refuse("SendFile", bad.code, bad.how, file(bad.change), bad.arg)
	}
	if n := k.must("DescribeSendFileResults", nil).text("TotalCount"); n != "3" {
		c.t.Errorf("%s deliveries are stored; want 3, none of those refused", n)
	}
}

// summaries are what the console begins with, of what deliveries has sent.
func (c *contract) summaries(f *fleet) {
	k := f.root
	k.ok("DescribeSendFileInvocations", "all parameters", params{
		"InvokeId": f.delivery, "InstanceId": f.till, "Name": "app.conf", "InvocationStatus": "Success", "ResourceGroupId": f.group,
		"Tag": oneTag("env", "prod"), "Search": "APP.c", "PageNumber": 1, "PageSize": 50,
	}, want{
		"TotalCount": 1, "Invocations.Invocation.0.InvokeId": f.delivery, "Invocations.Invocation.0.ContentSize": 10,
		"Invocations.Invocation.0.ContentPreview": "cG9ydCA9IDgwCg==", "Invocations.Invocation.0.SuccessCount": 1,
		"Invocations.Invocation.0.FailedCount": 0, "Invocations.Invocation.0.Timeout": 60, "Invocations.Invocation.0.Tags.Tag.0.TagKey": "env",
	})
	page := k.ok("DescribeSendFileInvocations", "first page by token", params{"MaxResults": 1}, want{
		"Invocations.Invocation.#": 1, "Invocations.Invocation.0.FailedCount": 1, "Invocations.Invocation.0.ContentPreview": "",
	})
	k.ok("DescribeSendFileInvocations", "next page by token", params{"MaxResults": 2, "NextToken": page.text("NextToken")}, want{
		"Invocations.Invocation.#": 2,
	})
	k.refuse("DescribeSendFileInvocations", "InvalidParameter", "", params{"InvocationStatus": "Lost"}, "InvocationStatus")

	refused := page.text("Invocations.Invocation.0.InvokeId")
	k.ok("DescribeSendFileTargets", "all parameters", params{
		"InvokeId": refused, "InvocationStatus": "Failed", "ErrorCode": "FileAlreadyExists", "Cause": "exists", "InstanceName": f.till,
		"MaxResults": 50, "PageNumber": 1,
	}, want{
		"TotalCount": 1, "InvokeInstances.InvokeInstance.0.InstanceId": f.till, "InvokeInstances.InvokeInstance.0.Cause": "exists",
		"InvocationGroups.InvocationGroup.#": 1, "InvocationGroups.InvocationGroup.0.ErrorCode": "FileAlreadyExists",
		"InvocationGroups.InvocationGroup.0.Count": 1,
	})
	k.ok("DescribeSendFileTargets", "of another cause", params{"InvokeId": refused, "Cause": "deadline"}, want{"TotalCount": 0})
	two := k.ok("SendFile", "to a machine that is not there, too", params{
		"InstanceId": list(f.till, "mi-none"), "Name": "app.conf", "TargetDir": "/srv/app", "Content": "port = 82",
	}, nil).text("InvokeId")
	first := k.ok("DescribeSendFileTargets", "first page by token", params{"InvokeId": two, "MaxResults": 1}, want{
		"TotalCount": 2, "InvokeInstances.InvokeInstance.0.InstanceId": f.till,
	})
	k.ok("DescribeSendFileTargets", "next page by token", params{"NextToken": first.text("NextToken")}, want{
		"InvokeInstances.InvokeInstance.#": 1, "InvokeInstances.InvokeInstance.0.ErrorCode": "InstanceNotExists",
	})
	k.refuse("DescribeSendFileTargets", "InvalidParameter", "", params{"InvokeId": two, "InvocationStatus": "Lost"}, "InvocationStatus")
	k.refuse("DescribeSendFileTargets", "InvalidParameter", "ErrorCode", params{"InvokeId": two, "ErrorCode": "Nonsense"}, "ErrorCode")
	k.refuse("DescribeSendFileTargets", "MissingParameter", "InvokeId", nil, "InvokeId")

	c.steering(f)
	c.uploads(f)
	stands := k.ok("WaitSendFileInvocation", "without a mark", params{"InvokeId": f.delivery}, want{
		"InvocationStatus": "Success", "VmCount": 1, "PendingCount": 0, "RunningCount": 0, "SuccessCount": 1, "FailedCount": 0,
	})
	k.ok("WaitSendFileInvocation", "nothing changes", params{"InvokeId": f.delivery, "Mark": stands.text("Mark"), "WaitSeconds": 1}, want{
		"Mark": stands.text("Mark"),
	})
	k.ok("WaitSendFileInvocation", "there is none", params{"InvokeId": "f-none", "Mark": "1-0-0-0"}, want{"Mark": "", "InvocationStatus": ""})
	k.refuse("WaitSendFileInvocation", "InvalidParameter", "", params{"InvokeId": f.delivery, "WaitSeconds": 21}, "WaitSeconds")
	k.refuse("WaitSendFileInvocation", "MissingParameter", "", nil, "InvokeId")

	has := k.ok("DescribeManagedFiles", "all parameters", params{
		"FilePath": "/srv//app/app.conf", "ContentSha256": sha256Of("port = 80\n"), "AtTime": "2126-01-01T00:00:00Z", "FileState": "Current", "MaxResults": 500,
	}, want{
		"Files.File.#": 1, "Files.File.0.InstanceId": f.till, "Files.File.0.FilePath": "/srv/app/app.conf", "Files.File.0.InvokeId": f.delivery,
		"Files.File.0.ContentSha256": sha256Of("port = 80\n"), "Files.File.0.ContentSize": 10, "Files.File.0.FileState": "Current",
		"Files.File.0.ReplacedBy": "", "Files.File.0.ReplaceTime": "",
	})
	k.ok("DescribeManagedFiles", "before it was there", params{"FilePath": "/srv/app/app.conf", "AtTime": "2020-01-01T00:00:00Z"}, want{"Files.File.#": 0})
	over := k.ok("SendFile", "over what is there", params{
		"InstanceId": list(f.till), "Name": "app.conf", "TargetDir": "/srv/app", "Content": "port = 83\n", "Overwrite": true,
		"FileOwner": has.text("Files.File.0.FileOwner"), "FileGroup": has.text("Files.File.0.FileGroup"),
	}, nil).text("InvokeId")
	k.await("DescribeManagedFiles", "what was replaced", params{"ContentSha256": sha256Of("port = 80\n"), "FileState": "Replaced"}, want{
		"Files.File.#": 1, "Files.File.0.InvokeId": f.delivery, "Files.File.0.ReplacedBy": over,
	})
	newest := k.ok("DescribeManagedFiles", "first page", params{"FilePath": "/srv/app/app.conf", "MaxResults": 1}, want{
		"Files.File.#": 1, "Files.File.0.InvokeId": over,
	})
	k.ok("DescribeManagedFiles", "next page", params{"NextToken": newest.text("NextToken")}, want{
		"Files.File.#": 1, "Files.File.0.InvokeId": f.delivery,
	})
	for _, bad := range []struct {
		arg   string
		given params
	}{
		{"FilePath", params{"FilePath": "app.conf"}},
		{"ContentSha256", params{"ContentSha256": "abc"}},
		{"AtTime", params{"FilePath": "/x", "AtTime": "yesterday"}},
		{"FileState", params{"FilePath": "/x", "FileState": "Lost"}},
	} {
		k.refuse("DescribeManagedFiles", "InvalidParameter", bad.arg, bad.given, bad.arg)
	}
	k.refuse("DescribeManagedFiles", "MissingParameter", "", nil, "FilePath")

	k.ok("DescribeSendFileSummary", "all parameters", params{"StartTime": "2020-01-01T00:00:00Z"}, want{
		"Invocations.InvocationCount.#": 5,
	})
	k.refuse("DescribeSendFileSummary", "InvalidParameter", "", params{"StartTime": "yesterday"}, "StartTime")
	k.ok("DescribeManagedInstanceSummary", "all parameters", nil, want{
		"InstanceGroups.InstanceGroup.0.AgentKind": "native",
	})
	k.ok("DescribeServer", "once more", nil, nil) // whichever is asked in JSON answers a list without entries
	k.ok("DescribeServer", "without parameters", nil, want{"Checks.Check.0.Name": "database", "Checks.Check.0.Passed": true})
	// In XML an empty list is not there, and of two ways in a row one at least is JSON.
	k.ok("DescribeServer", "once more", nil, want{"Checks.Check.0.Name": "database"})
}

// steering is of deliveries that are accepted.
func (c *contract) steering(f *fleet) {
	k := f.root
	open := k.must("SendFile", params{
		"InstanceId": list(f.silent), "Name": "stop.conf", "TargetDir": "/srv/app", "Content": "x", "Timeout": 3600,
	}).text("InvokeId")
	stop := params{"InvokeId": open, "InstanceId": list(f.silent)}
	for _, name := range []string{"all parameters", "repeated"} {
		k.ok("StopSendFile", name, stop, want{"CancelledCount": 1, "AskedCount": 0, "TooLateCount": 0})
	}
	k.ok("DescribeSendFileTargets", "of a cancelled delivery", params{"InvokeId": open}, want{
		"InvokeInstances.InvokeInstance.0.InvocationStatus": "Aborted", "InvokeInstances.InvokeInstance.0.ErrorCode": "DeliveryCancelled",
		"InvokeInstances.InvokeInstance.0.ErrorInfo": "the command delivery has been cancelled",
	})
	second := string(f.server.Agent().ID)
	rehearsed := k.ok("SendFile", "a rehearsal", f.file(params{
		"InstanceId": list(f.till, second), "Content": "port = 82\n", "Overwrite": true, "DryRun": true, "Diff": true,
	}), nil).text("InvokeId")
	k.await("DescribeSendFileResults", "a rehearsal", params{"InvokeId": rehearsed}, want{
		"Invocations.Invocation.0.DryRun": true, "Invocations.Invocation.0.InvocationStatus": "Success",
		"Invocations.Invocation.0.InvokeInstances.InvokeInstance.0.Change": "WouldReplace",
	})
	k.ok("DescribeSendFileInvocations", "a rehearsal", params{"InvokeId": rehearsed}, want{"Invocations.Invocation.0.DryRun": true, "Invocations.Invocation.0.Diff": true})
	diffs := k.ok("DescribeSendFileDiffs", "all parameters", params{"InvokeId": rehearsed, "InstanceId": f.till, "MaxResults": 1}, want{
		"TotalCount": 1, "FileDiffs.FileDiff.#": 1, "FileDiffs.FileDiff.0.InstanceId": f.till, "FileDiffs.FileDiff.0.Note": "",
	})
	if d := diffs.text("FileDiffs.FileDiff.0.Diff"); !strings.HasSuffix(d, "\n+port = 82\n") {
		c.t.Errorf("diff %q", d)
	}
	first := k.ok("DescribeSendFileDiffs", "first page", params{"InvokeId": rehearsed, "MaxResults": 1}, want{
		"TotalCount": 2, "FileDiffs.FileDiff.0.InstanceId": f.till,
	})
	k.ok("DescribeSendFileDiffs", "next page", params{"NextToken": first.text("NextToken")}, want{
		"FileDiffs.FileDiff.#": 1, "FileDiffs.FileDiff.0.InstanceId": second,
	})
	k.ok("DescribeSendFileDiffs", "of an unknown delivery", params{"InvokeId": "f-none"}, want{"TotalCount": 0, "FileDiffs.FileDiff.#": 0})
	k.refuse("DescribeSendFileDiffs", "MissingParameter", "", nil, "InvokeId")
	k.refuse("SendFile", "MissingParameter", "a comparison that is no rehearsal", f.file(params{"Diff": true}), "DryRun")
	k.ok("StopSendFile", "that has ended, on all instances", params{"InvokeId": f.delivery}, want{"CancelledCount": 0, "TooLateCount": 1})
	k.refuse("StopSendFile", "MissingParameter", "InvokeId", nil, "InvokeId")
	k.refuse("StopSendFile", "InvalidInvokeId.NotFound", "", params{"InvokeId": "f-none"}, "")
	k.refuse("StopSendFile", "InvalidInstance.NotFound", "no target", params{"InvokeId": open, "InstanceId": list("mi-none")}, "")
	k.refuse("StopSendFile", "InstanceIds.ExceedLimit", "", params{"InvokeId": open, "InstanceId": copies(51, "mi-%d")}, "")
	c.retrying(f, open)
}

// retrying is of a delivery that was cancelled.
func (c *contract) retrying(f *fleet, cancelled string) {
	k := f.root
	retry := params{"InvokeId": cancelled, "InstanceId": list(f.silent), "Timeout": 3600, "ClientToken": "retry-1"}
	for _, name := range []string{"all parameters", "repeated with its ClientToken"} {
		k.ok("RetrySendFile", name, retry, want{"RetriedCount": 1, "SkippedCount": 0, "ExhaustedCount": 0})
	}
	k.refuse("RetrySendFile", "IdempotentParameterMismatch", "", params{"InvokeId": cancelled, "ClientToken": "retry-1"}, "")
	k.ok("RetrySendFile", "of what is open", params{"InvokeId": cancelled}, want{"RetriedCount": 0, "SkippedCount": 1})
	k.ok("DescribeSendFileResults", "of a second attempt", params{"InvokeId": cancelled}, want{
		"Invocations.Invocation.0.InvokeInstances.InvokeInstance.0.Attempt":          2,
		"Invocations.Invocation.0.InvokeInstances.InvokeInstance.0.InvocationStatus": "Pending",
	})
	k.ok("DescribeSendFileTargets", "of a second attempt", params{"InvokeId": cancelled}, want{"InvokeInstances.InvokeInstance.0.Attempt": 2})
	k.ok("DescribeSendFileAttempts", "all parameters", params{"InvokeId": cancelled, "InstanceId": f.silent}, want{
		"Attempts.Attempt.#": 2, "Attempts.Attempt.0.Attempt": 1, "Attempts.Attempt.0.InvocationStatus": "Aborted",
		"Attempts.Attempt.0.ErrorCode": "DeliveryCancelled", "Attempts.Attempt.0.Cause": "cancelled", "Attempts.Attempt.1.InvocationStatus": "Pending",
	})
	k.ok("DescribeSendFileAttempts", "of a success", params{"InvokeId": f.delivery, "InstanceId": f.till}, want{
		"Attempts.Attempt.#": 1, "Attempts.Attempt.0.InvocationStatus": "Success", "Attempts.Attempt.0.Change": "Created",
	})
	k.refuse("RetrySendFile", "MissingParameter", "InvokeId", nil, "InvokeId")
	k.refuse("RetrySendFile", "InvalidInvokeId.NotFound", "", params{"InvokeId": "f-none"}, "")
	k.refuse("RetrySendFile", "InvalidInstance.NotFound", "no target", params{"InvokeId": cancelled, "InstanceId": list("mi-none")}, "")
	k.refuse("RetrySendFile", "InstanceIds.ExceedLimit", "", params{"InvokeId": cancelled, "InstanceId": copies(51, "mi-%d")}, "")
	k.refuse("RetrySendFile", "InvalidTimeout.ExceedLimit", "", params{"InvokeId": cancelled, "Timeout": 86401}, "")
	k.refuse("RetrySendFile", "InvalidParameter", "Timeout", params{"InvokeId": cancelled, "Timeout": "soon"}, "Timeout")
	k.refuse("DescribeSendFileAttempts", "MissingParameter", "InvokeId", params{"InstanceId": f.silent}, "InvokeId")
	k.refuse("DescribeSendFileAttempts", "MissingParam.InstanceId", "", params{"InvokeId": cancelled}, "")
	k.refuse("DescribeSendFileAttempts", "InvalidInvokeId.NotFound", "", params{"InvokeId": "f-none", "InstanceId": f.silent}, "")
	k.refuse("DescribeSendFileAttempts", "InvalidInstance.NotFound", "no target", params{"InvokeId": cancelled, "InstanceId": "mi-none"}, "")
}

// uploads are of contents that are sent by their digests.
func (c *contract) uploads(f *fleet) {
	k := f.root
	const content = "port = 83\n"
	digest := waybill.FormatDigest(sha256.Sum256([]byte(content)))
	file := func(change params) params {
		p := params{"InstanceId": list(f.till), "Name": "uploaded.conf", "TargetDir": "/srv/app", "ContentDigest": digest, "Overwrite": true}
		maps.Copy(p, change)
		return p
	}
	k.refuse("SendFile", "ContentDigest.NotFound", "", file(nil), "")
	k.refuse("SendFile", "InvalidParameter.ContentDigest", "", file(params{"ContentDigest": digest[:70]}), "")
	k.refuse("SendFile", "InvalidParameter.Conflict", "two contents", file(params{"Content": "x"}), "Content cannot be given together with ContentDigest")
	k.refuse("SendFile", "MissingParameter", "Content", file(params{"ContentDigest": ""}), "Content")

	all := params{"ContentDigest": digest, "Size": len(content)}
	location := k.ok("CreateContentUpload", "all parameters", all, want{"Exists": false, "Offset": 0}).text("Location")
	k.ok("CreateContentUpload", "that is under way", all, want{"Exists": false, "Offset": 0})
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPatch, "http://"+k.addrs["http"]+location, strings.NewReader(content))
	if err != nil {
		c.t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream",
	} {
		r.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNoContent {
		c.t.Fatalf("the location answers %s", answer.Status)
	}
	k.ok("CreateContentUpload", "that is there", all, want{"Exists": true, "Location": "", "ExpiredTime": ""})
	id := k.ok("SendFile", "by its digest", file(nil), nil).text("InvokeId")
	k.await("DescribeSendFileResults", "of an uploaded content", params{"InvokeId": id}, want{
		"Invocations.Invocation.0.InvocationStatus": "Success", "Invocations.Invocation.0.ContentType": "Base64",
		"Invocations.Invocation.0.Content": "cG9ydCA9IDgzCg==",
	})
	k.refuse("CreateContentUpload", "MissingParameter", "ContentDigest", params{"ContentDigest": ""}, "ContentDigest")
	k.refuse("CreateContentUpload", "MissingParameter", "Size", params{"ContentDigest": digest, "Size": ""}, "Size")
	k.refuse("CreateContentUpload", "InvalidParameter.ContentDigest", "", params{"ContentDigest": "md5:00", "Size": 1}, "")
	k.refuse("CreateContentUpload", "InvalidParameter.Size", "too much", params{"ContentDigest": digest, "Size": int64(16<<30 + 1)}, "")
	k.refuse("CreateContentUpload", "InvalidParameter.Size", "another", params{"ContentDigest": digest, "Size": 11}, "the content with this digest has 10 bytes, not 11")
}

// instanceTokens are for machines with the official agent.
func (c *contract) instanceTokens(f *fleet) {
	k, s := f.root, f.server
	official := string(s.Register(s.Network(), s.Activate("moved")).ID)
	p := params{"InstanceId": official, "ClientToken": "token-1"}
	first := k.ok("CreateInstanceToken", "all parameters", p, want{"InstanceId": official})
	k.ok("CreateInstanceToken", "repeated with its ClientToken", p, want{"InstanceId": official, "Token": first.text("Token")})
	k.refuse("CreateInstanceToken", "IdempotentParameterMismatch", "", params{"InstanceId": f.silent, "ClientToken": "token-1"}, "")
	k.ok("DeleteInstanceToken", "all parameters", params{"InstanceId": official}, nil)
	for _, action := range []string{"CreateInstanceToken", "DeleteInstanceToken"} {
		k.refuse(action, "InvalidInstance.NotFound", "", params{"InstanceId": "mi-none"}, "")
		k.refuse(action, "Operation.Forbidden", "", params{"InstanceId": f.silent}, "instance "+f.silent+" runs waybill-agent, which needs no token")
	}
	k.ok("DeregisterManagedInstance", "an official agent's", params{"InstanceId": official}, nil)
}

// departures is last on the fleet: a machine leaves it.
func (c *contract) departures(f *fleet) {
	k := f.root
	p := params{"InstanceId": f.leaver, "ClientToken": "leave-1"}
	gone := want{
		"Instance.InstanceId": f.leaver, "Instance.ResourceGroupId": f.group, "Instance.InstanceName": "kiosk-001",
		"Instance.ActivationId": f.used,
	}
	k.ok("DeregisterManagedInstance", "all parameters", p, gone)
	k.ok("DeregisterManagedInstance", "repeated with its ClientToken", p, gone)
	k.refuse("DeregisterManagedInstance", "IdempotentParameterMismatch", "", params{"InstanceId": f.silent, "ClientToken": "leave-1"}, "")
	k.refuse("DeregisterManagedInstance", "InvalidInstance.NotFound", "", params{"InstanceId": "mi-none"}, "")
	k.refuse("DeregisterManagedInstance", "InvalidParameter", "", params{"InstanceId": f.silent, "ClientToken": longText(65)}, "ClientToken")
}

// longText is a text of n letters.
func longText(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a'
	}
	return string(b)
}

// jsonText is a JSON array of texts.
func jsonText(items ...string) string {
	b, err := json.Marshal(items)
	if err != nil {
		panic(err) // texts
	}
	return string(b)
}

// nobodies are IDs of n instances that do not exist.
func nobodies(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("mi-nobody-%d", i)
	}
	return ids
}

// file is a delivery to till, but for some changes.
func (f *fleet) file(changes params) params {
	p := params{
		"InstanceId": list(f.till), "Name": "app.conf", "TargetDir": "/srv/app", "Content": "port = 80\n",
		"FileOwner": strconv.Itoa(os.Geteuid()), "FileGroup": strconv.Itoa(os.Getegid()),
	}
	maps.Copy(p, changes)
	return p
}

// targets are the ways to say whom a file is meant for.
func (c *contract) targets(f *fleet) {
	k, file := f.root, f.file
	for _, op := range []string{"SendFile", "PreviewSendFile"} {
		with := func(changes params) params {
			p := params{}
			if op == "SendFile" {
				p = file(nil)
			}
			delete(p, "InstanceId")
			maps.Copy(p, changes)
			return p
		}
		for _, bad := range []struct {
			code, how string
			change    params
			arg       string
		}{
			{"MissingParam.InstanceId", "", nil, ""},
			{"InvalidParameter.Conflict", "", params{"InstanceId": list(f.till), "AllInstances": true}, "InstanceId cannot be given together with AllInstances"},
			{"InvalidParameter", "InstanceIds", params{"InstanceIds": "x"}, "InstanceIds"},
			{"InvalidInstance.NotFound", "listed", params{"InstanceIds": jsonText("mi-none")}, ""},
			{"InvalidResourceGroup.NotFound", "of instances", params{"TargetResourceGroupId": "rg-none"}, ""},
		} {
			k.refuse(op, bad.code, bad.how, with(bad.change), bad.arg)
		}
	}
	k.refuse("PreviewSendFile", "InstanceIds.ExceedLimit", "", params{"InstanceId": copies(51, "mi-%d")}, "")
	k.refuse("PreviewSendFile", "InvalidInstance.NotFound", "", params{"InstanceId": list("mi-none")}, "")

	name := k.must("DescribeManagedInstances", params{"InstanceId": list(f.till)})
	selector := params{
		"ResourceTag": oneTag("env", "prod"), "InstanceName": name.text("Instances.0.InstanceName"), "TargetResourceGroupId": f.group,
		"ActivationId": name.text("Instances.0.ActivationId"), "AllInstances": true, "ResourceGroupId": f.group,
	}
	preview := params{"ContentSize": 10, "MaxResults": 500}
	maps.Copy(preview, selector)
	k.ok("PreviewSendFile", "all selectors", preview, want{
		"TotalCount": 1, "PreviewGroups.PreviewGroup.0.Outlook": "Reachable", "PreviewGroups.PreviewGroup.0.Count": 1,
		"PreviewInstances.PreviewInstance.0.InstanceId": f.till,
	})
	page := k.ok("PreviewSendFile", "first page of a list", params{"InstanceIds": jsonText(f.till, "mi-zzz"), "MaxResults": 1}, want{
		"TotalCount": 2, "PreviewInstances.PreviewInstance.#": 1,
	})
	k.ok("PreviewSendFile", "next page of a list", params{
		"InstanceIds": jsonText(f.till, "mi-zzz"), "NextToken": page.text("NextToken"),
	}, want{
		"NextToken": "", "PreviewInstances.PreviewInstance.0.Outlook": "Ended",
		"PreviewInstances.PreviewInstance.0.ErrorCode": "InstanceNotExists", "PreviewInstances.PreviewInstance.0.InstanceId": "mi-zzz",
	})
	k.ok("PreviewSendFile", "one by one", params{"InstanceId": list(f.silent)}, want{"PreviewInstances.PreviewInstance.0.Outlook": "Held"})
	selected := file(selector)
	delete(selected, "InstanceId")
	id := k.ok("SendFile", "to all selectors", selected, nil).text("InvokeId")
	k.await("DescribeSendFileTargets", "of selectors", params{"InvokeId": id}, want{
		"TotalCount": 1, "InvokeInstances.InvokeInstance.0.InstanceId": f.till, "InvokeInstances.InvokeInstance.0.InvocationStatus": "Failed",
	})
	listed := file(params{"InstanceIds": jsonText(f.till)})
	delete(listed, "InstanceId")
	k.ok("SendFile", "to a list", listed, nil)
	many := file(params{"InstanceIds": jsonText(append([]string{f.till}, nobodies(600)...)...)})
	delete(many, "InstanceId")
	id = k.must("SendFile", many).text("InvokeId")
	k.ok("DescribeSendFileResults", "of many instances", params{"InvokeId": id}, want{
		"Invocations.Invocation.0.VmCount": 601, "Invocations.Invocation.0.InvokeInstances.InvokeInstance.#": 500,
		"Invocations.Invocation.0.InvokeInstancesOmitted": true,
	})
}
func sha256Of(text string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(text))) }
