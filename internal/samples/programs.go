// SPDX-License-Identifier: Apache-2.0

package samples

import (
	"fmt"
	"strconv"
	"strings"
)

// each writes one line for each parameter.
func (c *Call) each(format string, quote func(string) string) string {
	var b strings.Builder
	for _, p := range c.Params {
		fmt.Fprintf(&b, format, quote(p.Name), quote(p.Value))
	}
	return b.String()
}

// fill puts values into the places of a frame: pairs of a place, without its marks, and a text.
func fill(frame string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = "%" + pairs[i] + "%"
	}
	return strings.NewReplacer(pairs...).Replace(frame)
}

const goFrame = `// go get github.com/aliyun/alibaba-cloud-sdk-go
package main

import (
%IMPORTS%)

func main() {
	log.SetFlags(0)
	config := sdk.NewConfig()
%TRUST%	client, err := sdk.NewClientWithOptions("cn-hangzhou", config, credentials.NewAccessKeyCredential(
		os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"), os.Getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET")))
	if err != nil {
		log.Fatal(err)
	}
	request := requests.NewCommonRequest()
	request.Method = requests.POST
	request.Scheme = %SCHEME%
	request.Domain = %HOST%
	request.Version = %VERSION%
	request.ApiName = %ACTION%
%PARAMS%	response, err := client.ProcessCommonRequest(request)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(response.GetHttpContentString())
}
`

const goTrust = `	pem, err := os.ReadFile(%CA%)
	if err != nil {
		log.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		log.Fatal("no certificate in " + %CA%)
	}
	config.HttpTransport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
`

func golang(c *Call) (string, error) {
	imports, trust := "\t\"fmt\"\n\t\"log\"\n\t\"os\"\n", ""
	if c.CA != "" {
		imports = "\t\"crypto/tls\"\n\t\"crypto/x509\"\n\t\"fmt\"\n\t\"log\"\n\t\"net/http\"\n\t\"os\"\n"
		trust = fill(goTrust, "CA", strconv.Quote(c.CA))
	}
	const sdk = "github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	imports += "\n\t\"" + sdk + "\"\n\t\"" + sdk + "/auth/credentials\"\n\t\"" + sdk + "/requests\"\n"
	return fill(goFrame,
		"IMPORTS", imports, "TRUST", trust, "SCHEME", strconv.Quote(c.scheme()), "HOST", strconv.Quote(c.host()),
		"VERSION", strconv.Quote(c.Version), "ACTION", strconv.Quote(c.Action),
		"PARAMS", c.each("\trequest.FormParams[%s] = %s\n", strconv.Quote)), nil
}

const pythonFrame = `# pip install alibabacloud_tea_openapi alibabacloud_tea_util
%TRUST%import json
import os

from alibabacloud_tea_openapi import models as open_api
from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_util import models as util

client = Client(open_api.Config(
    access_key_id=os.environ["ALIBABA_CLOUD_ACCESS_KEY_ID"],
    access_key_secret=os.environ["ALIBABA_CLOUD_ACCESS_KEY_SECRET"],
    endpoint=%HOST%,
    protocol=%SCHEME%,
))
params = open_api.Params(
    action=%ACTION%, version=%VERSION%, protocol=%SCHEME%, pathname="/", method="POST",
    auth_type="AK", style="RPC", req_body_type="formData", body_type="json",
)
request = open_api.OpenApiRequest(body={
%PARAMS%})
response = client.call_api(params, request, util.RuntimeOptions())
print(json.dumps(response["body"], indent=2, ensure_ascii=False))
`

func python(c *Call) (string, error) {
	trust := ""
	if c.CA != "" {
		trust = "# run it with: REQUESTS_CA_BUNDLE=" + quoteShell(c.CA) + " python3 call.py\n"
	}
	return fill(pythonFrame,
		"TRUST", trust, "HOST", quotePython(c.host()), "SCHEME", quotePython(strings.ToUpper(c.scheme())),
		"ACTION", quotePython(c.Action), "VERSION", quotePython(c.Version),
		"PARAMS", c.each("    %s: %s,\n", quotePython)), nil
}

const javaFrame = `// com.aliyun:tea-openapi and com.aliyun:tea-util
%TRUST%import com.aliyun.teaopenapi.Client;
import com.aliyun.teaopenapi.models.Config;
import com.aliyun.teaopenapi.models.OpenApiRequest;
import com.aliyun.teaopenapi.models.Params;
import com.aliyun.teautil.Common;
import com.aliyun.teautil.models.RuntimeOptions;
import java.util.LinkedHashMap;
import java.util.Map;

public class Call {
    public static void main(String[] args) throws Exception {
        Client client = new Client(new Config()
            .setAccessKeyId(System.getenv("ALIBABA_CLOUD_ACCESS_KEY_ID"))
            .setAccessKeySecret(System.getenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET"))
            .setEndpoint(%HOST%)
            .setProtocol(%SCHEME%));
        Params params = new Params()
            .setAction(%ACTION%).setVersion(%VERSION%).setProtocol(%SCHEME%).setPathname("/").setMethod("POST")
            .setAuthType("AK").setStyle("RPC").setReqBodyType("formData").setBodyType("json");
        Map<String, Object> body = new LinkedHashMap<>();
%PARAMS%        Map<String, ?> response = client.callApi(params, new OpenApiRequest().setBody(body), new RuntimeOptions());
        System.out.println(Common.toJSONString(response.get("body")));
    }
}
`

func java(c *Call) (string, error) {
	trust := ""
	if c.CA != "" {
		trust = "// once: keytool -importcert -noprompt -alias waybill -file " + quoteShell(c.CA) + " -keystore trust.p12 -storepass changeit\n" +
			"// run with -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit\n"
	}
	return fill(javaFrame,
		"TRUST", trust, "HOST", quoteJava(c.host()), "SCHEME", quoteJava(strings.ToUpper(c.scheme())),
		"ACTION", quoteJava(c.Action), "VERSION", quoteJava(c.Version),
		"PARAMS", c.each("        body.put(%s, %s);\n", quoteJava)), nil
}

const nodeFrame = `// npm install @alicloud/pop-core
%TRUST%const { RPCClient } = require('@alicloud/pop-core');

const client = new RPCClient({
  endpoint: %ENDPOINT%,
  apiVersion: %VERSION%,
  accessKeyId: process.env.ALIBABA_CLOUD_ACCESS_KEY_ID,
  accessKeySecret: process.env.ALIBABA_CLOUD_ACCESS_KEY_SECRET,
});
client.request(%ACTION%, {
%PARAMS%}, { method: 'POST' }).then(
  (answer) => console.log(JSON.stringify(answer, null, 2)),
  (err) => { console.error(err.message); process.exitCode = 1; },
);
`

func node(c *Call) (string, error) {
	trust := ""
	if c.CA != "" {
		trust = "// run it with: NODE_EXTRA_CA_CERTS=" + quoteShell(c.CA) + " node call.js\n"
	}
	return fill(nodeFrame,
		"TRUST", trust, "ENDPOINT", quoteJS(c.scheme()+"://"+c.host()), "VERSION", quoteJS(c.Version), "ACTION", quoteJS(c.Action),
		"PARAMS", c.each("  %s: %s,\n", quoteJS)), nil
}
