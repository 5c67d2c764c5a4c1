// SPDX-License-Identifier: Apache-2.0

package compat

// Answers hold the fields that the story looks at, with the types that the official models declare (api reference
// §6.4): a field that a client decoded to anything else fails the test.
type (
	paged struct {
		RequestId                        string
		PageNumber, PageSize, TotalCount int64
		NextToken                        string
	}
	sent struct {
		RequestId, InvokeId string
	}
	results struct {
		paged
		Invocations struct{ Invocation []invocation }
	}
	invocation struct {
		InvokeId, Name, Description, TargetDir, ContentType, Content string
		FileOwner, FileGroup, FileMode, Overwrite, CreationTime      string
		InvocationStatus                                             string
		VmCount                                                      int32
		InvokeInstances                                              struct{ InvokeInstance []invokeInstance }
		Tags                                                         struct{ Tag []tag }
	}
	invokeInstance struct {
		InstanceId, InvocationStatus, ErrorCode, ErrorInfo string
		CreationTime, StartTime, FinishTime, UpdateTime    string
	}
	tag        struct{ TagKey, TagValue string }
	activation struct {
		ActivationId, InstanceName, Description, IpAddressRange, CreationTime string
		InstanceCount, RegisteredCount, DeregisteredCount                     int32
		TimeToLiveInHours                                                     int64
		Disabled                                                              bool
		Tags                                                                  []tag // only in lists
	}
	activations struct {
		paged
		ActivationList []activation // flat
	}
	created struct {
		ActivationId, ActivationCode string
	}
	changed struct{ Activation activation }
	machine struct {
		InstanceId, InstanceName, ActivationId, Hostname string
		OsType, AgentVersion, RegistrationTime           string
		Connected                                        bool
		InvocationCount                                  int64
		Tags                                             []tag
	}
	machines struct {
		paged
		Instances []machine // flat
	}
	renamed struct {
		Instance struct{ InstanceId, InstanceName string }
	}
	statuses struct {
		paged
		InstanceCloudAssistantStatusSet struct {
			InstanceCloudAssistantStatus []agentStatus
		}
	}
	agentStatus struct {
		InstanceId, CloudAssistantStatus, CloudAssistantVersion, OSType string
		LastHeartbeatTime, LastInvokedTime                              string
		ActiveTaskCount, InvocationCount                                int64
		SupportSessionManager                                           bool
	}
	regions struct {
		Regions struct {
			Region []struct{ RegionId, RegionEndpoint, LocalName, Status string }
		}
	}
)
