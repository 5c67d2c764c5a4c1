// SPDX-License-Identifier: Apache-2.0

// Drives the official clients for Node.js. The first line of standard input says which client and how to reach the
// server; each line after it is a call, answered with one line: what the client made of the answer, or of the refusal.
// Anything else that a client throws ends the process.
'use strict';

const readline = require('node:readline');

const clients = {
	'pop-core': ({ access, method }) => {
		const { RPCClient } = require('@alicloud/pop-core');
		const client = new RPCClient({
			endpoint: `${access.Scheme}://${access.Addr}`,
			accessKeyId: access.ID,
			accessKeySecret: access.Secret,
			apiVersion: '2014-05-26',
		});
		return {
			call: (action, params) => client.request(action, params, { method }),
			refusal: (err) => err.entry && {
				Status: err.entry.response.statusCode,
				Code: err.code,
				Message: err.data.Message,
				RequestID: err.data.RequestId,
			},
		};
	},

	// Requests and answers go through the package's models, so what they do not declare is lost.
	ecs20140526: ({ access }) => {
		const ecs = require('@alicloud/ecs20140526');
		const { $OpenApiUtil } = require('@alicloud/openapi-core');
		const { cast } = require('@darabonba/typescript');
		const client = new ecs.default(new $OpenApiUtil.Config({
			endpoint: access.Addr,
			protocol: access.Scheme.toUpperCase(),
			accessKeyId: access.ID,
			accessKeySecret: access.Secret,
		}));
		return {
			call: async (action, params) => {
				const request = cast(params, new ecs[`${action}Request`]({}));
				const response = await client[action[0].toLowerCase() + action.slice(1)](request);
				return response.body.toMap();
			},
			refusal: (err) => err.statusCode && {
				Status: err.statusCode,
				Code: err.code,
				Message: err.message.match(/code: \d+, (.*) request id: /s)[1],
				RequestID: err.requestId,
			},
		};
	},
};

async function main() {
	let client;
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const { action, params, ...config } = JSON.parse(line);
		if (!client) {
			client = clients[config.client](config);
			continue;
		}
		let out;
		try {
			out = { Answer: await client.call(action, params) };
		} catch (err) {
			const refusal = client.refusal(err);
			if (!refusal) {
				throw err;
			}
			out = { Refusal: refusal };
		}
		process.stdout.write(JSON.stringify(out) + '\n');
	}
}

main();
