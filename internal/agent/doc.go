// SPDX-License-Identifier: Apache-2.0

// Package agent is the program on a machine that takes up deliveries, places their files with internal/place and tells
// the server what came of it. It speaks internal/wire, over NATS and for its identity over HTTPS. It decides nothing
// about a delivery but whether it is still in time; the server is the truth, and the agent asks it for everything that
// is open whenever it connects.
//
// Enroll makes a machine an instance, New and Run are its agent, Leave ends it. A state directory holds the identity
// and the journal, which is why a kill at any moment loses no outcome and repeats no work.
//
// The life of a delivery here: offered by push or pull (session.take) → judged, acknowledged and queued by path
// (executor.offer, executor.start) → recorded as taken and placed (executor.place), with an intent recorded right
// before publication → its outcome recorded and put into the outbox (executor.finish) → reported until confirmed
// (session.report) → a tombstone in the journal until its deadline is well over.
//
// # Weaknesses it must not have
//
// The official agent has the weaknesses W1 to W27 that docs/agent.md lists. For each, tests show that this one does
// better; a test checks that they exist.
//
//	W1  no write in place            place.TestOverwriteIsAtomic agent.TestKilled
//	W2  synced before reported       place.TestSynced place.TestSteps
//	W3  full disk changes nothing    place.TestBadDisk place.TestFullDiskThenRoom
//	W4  owner checked before writing place.TestPlaceRefused place.TestSteps
//	W5  never visible with less      place.TestTemporaryIsPrivate place.TestSteps
//	W6  links not followed           place.TestPlace place.TestSwappedDirectory
//	W7  exclusive creation           place.TestExclusiveRace
//	W8  no escape by name            place.TestCheckName place.TestPlaceRefused
//	W9  all twelve mode bits         place.TestPlace
//	W10 owner of a replaced file     place.TestPlace
//	W11 directories cleared up       place.TestMadeDirectories place.TestPlaceRefused
//	W12 empty files                  place.TestPlace
//	W13 digest, deadline             place.TestPlaceRefused agent.TestExecutorDeadline agent.TestServerTime
//	W14 reports until confirmed      agent.TestConfirmLost agent.TestReportSurvivesRestart agent.TestKilled
//	W15 each delivery once           agent.TestExecutorOnce agent.TestDuplicateAndLate agent.TestKilled
//	W16 any text in a report         agent.TestDetail agent.TestReportOfAnyText
//	W17 reconnects, pulls each time  agent.TestReconnect agent.TestServerAwayAtStart agent.TestBackoffSpreads
//	W18 heartbeat tells what it has  agent.TestBeat agent.TestPushLost
//	W19 dead peers are noticed       agent.TestDeadPeer
//	W20 malformed messages ignored   agent.TestMalformedMessages agent.FuzzReplay
//	W21 slow answers asked for again agent.TestPull agent.TestHelloUnanswered
//	W22 memory flat                  agent.TestMemoryIsFlat agent.TestExecutorRefusesWhatItCannotHold
//	W23 nothing secret readable      agent.TestNoSecretsLogged agent.TestEnroll agent.TestJournalRemembers
//	W24 signature over everything    identity.TestVerifyRequest identity.TestSignRequestVectors
//	W25 acknowledged when taken up   agent.TestDelivery
//	W26 small                        agent.TestProgram agent.BenchmarkIdleProgram
//	W27 work finished on SIGTERM     agent.TestEndFinishesWork agent.TestExecutorEnds agent.TestEndTooSlow
package agent
