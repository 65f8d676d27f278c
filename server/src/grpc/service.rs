//! The three methods that every single-model service has, written once.

/// Implements a service whose answers come from one model: unary, batch and stream.
///
/// With a `task`, the invoking module provides `impl Features for $request` and
/// `fn answer(&Predictor, &Deployment, Outcome) -> $response`. Without, it provides what is made of those otherwise:
/// `fn one(&Arc<Predictor>, &$request, Call) -> Reply<$response>`,
/// `async fn many(&Predictor, &[$request], Call) -> Result<Vec<Result<$response, PredictError>>, PredictError>` and
/// `fn together(&Predictor, usize, impl Fn(usize) -> &$request, impl FnMut(Result<$response, PredictError>)) -> bool`, which
/// answers all rows of a run or, when it cannot, none, and `RUN_MAX`.
macro_rules! single_model_service {
    (
        $(#[$doc:meta])*
        $service:ident: $rpc:path,
        task: $task:expr,
        unary: $unary:ident($request:ty) -> $response:ty,
        $($methods:tt)*
    ) => {
        #[inline]
        pub(super) fn one(
            predictor: &std::sync::Arc<Predictor>,
            request: &$request,
            call: super::call::Call,
        ) -> predictor::Reply<$response> {
            predictor.row($task, request.model_selector.as_ref(), request, call, answer)
        }

        #[inline]
        fn many(
            predictor: &Predictor,
            rows: &[$request],
            call: super::call::Call,
        ) -> impl Future<Output = predictor::Results<$response>> + Send {
            let answer = |deployment: &Deployment, outcome: Outcome| answer(predictor, deployment, outcome);
            predictor.rows($task, rows, |row| row.model_selector.as_ref(), call, answer)
        }

        const RUN_MAX: usize = stream::RUN_MAX;

        #[inline]
        fn together<'r>(
            predictor: &Predictor,
            rows: usize,
            row: impl Fn(usize) -> &'r $request,
            answered: impl FnMut(Result<$response, crate::pipeline::PredictError>),
        ) -> bool {
            let answer = |deployment: &Deployment, outcome: Outcome| answer(predictor, deployment, outcome);
            predictor.together($task, rows, row, |row| row.model_selector.as_ref(), answer, answered)
        }

        single_model_service! {
            $(#[$doc])*
            $service: $rpc,
            unary: $unary($request) -> $response,
            $($methods)*
        }
    };
    (
        $(#[$doc:meta])*
        $service:ident: $rpc:path,
        unary: $unary:ident($request:ty) -> $response:ty,
        batch: $batch:ident($batch_request:ty) -> $batch_response:ident of $batch_result:ident / $batch_oneof:path,
        stream: $stream:ident($stream_request:ty) -> $stream_response:ident / $stream_oneof:path as $stream_type:ident,
        $(more: { $($more:item)* },)?
    ) => {
        $(#[$doc])*
        pub(super) struct $service(pub(super) std::sync::Arc<Predictor>);

        #[tonic::async_trait]
        impl $rpc for $service {
            $($($more)*)?

            type $stream_type = stream::Answers<$stream_response>;

            async fn $unary(
                &self,
                request: tonic::Request<$request>,
            ) -> Result<tonic::Response<$response>, tonic::Status> {
                let call = self.0.call(&request)?;
                let reply = one(&self.0, request.get_ref(), call);
                reply.done().await.map(tonic::Response::new).map_err(status::of_predict)
            }

            async fn $batch(
                &self,
                request: tonic::Request<$batch_request>,
            ) -> Result<tonic::Response<$batch_response>, tonic::Status> {
                use $batch_oneof as Oneof;
                let call = self.0.call(&request)?;
                let results = many(&self.0, &request.get_ref().rows, call).await.map_err(status::of_predict)?;
                let results = results.into_iter().map(|result| {
                    let result = match result {
                        Ok(response) => Oneof::Response(response),
                        Err(error) => Oneof::Error(status::of_row(error)),
                    };
                    $batch_result { result: Some(result) }
                });
                Ok(tonic::Response::new($batch_response { results: results.collect() }))
            }

            async fn $stream(
                &self,
                request: tonic::Request<tonic::Streaming<$stream_request>>,
            ) -> Result<tonic::Response<Self::$stream_type>, tonic::Status> {
                use $stream_oneof as Oneof;
                let call = self.0.call_of_stream(&request)?;
                let predictor = std::sync::Arc::clone(&self.0);
                let draining = predictor.draining.clone();
                let answer = |id, answered| {
                    let result = match answered {
                        Ok(response) => Oneof::Response(response),
                        Err(error) => Oneof::Error(status::of_row(error)),
                    };
                    $stream_response { id, result: Some(result) }
                };
                let nothing = <$request>::default();
                let answers = stream::answers_in_runs(request.into_inner(), &draining, call.deadline, RUN_MAX, move |run, ahead| {
                    let mut ids = run.iter().map(|message| message.id);
                    let row = |row: usize| run.get(row).and_then(|message| message.request.as_ref()).unwrap_or(&nothing);
                    let answered = |answered| {
                        ahead.push_back(stream::Answer::Now(answer(ids.next().unwrap_or_default(), answered)));
                    };
                    if run.len() > 1 && together(&predictor, run.len(), row, answered) {
                        run.clear();
                        return;
                    }
                    ahead.extend(run.drain(..).map(|message| {
                        let request = message.request.unwrap_or_default();
                        one(&predictor, &request, call).in_stream(move |answered| answer(message.id, answered))
                    }));
                });
                Ok(tonic::Response::new(answers))
            }
        }
    };
}

pub(super) use single_model_service;
